// threads: eight threads take turns under one mutex and condition variable, one round a step. Each looks after a count
// and memory that it reaches by thread-local storage, after its name and its thread id.
#include "steps.h"
#include <pthread.h>
#include <sys/prctl.h>

enum { THREADS = 8, OWN_PAGES = 64 };

struct Own {
    int number;
    pid_t tid;
    uint64_t count;
    char name[16];
    struct Pages pages;
    char canary[512];
};

static __thread struct Own own;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turnPassed = PTHREAD_COND_INITIALIZER;
static int turn;
static uint64_t counts[THREADS];
static bool roundOk, verifying;

static void beginThread(int number) {
    own.number = number;
    own.tid = gettid();
    snprintf(own.name, sizeof own.name, "worker-%d", number);
    prctl(PR_SET_NAME, own.name);
    fillPages(&own.pages, newMemory(OWN_PAGES * PAGE, MAP_PRIVATE), OWN_PAGES, 300 + (uint64_t)number);
    memset(own.canary, 'a' + number, sizeof own.canary);
}

static bool takeTurn(void) {
    bool ok = expect(own.count == counts[own.number], own.name, "its count") & expect(stepPages(&own.pages), own.name, "its memory");
    counts[own.number] = ++own.count;
    if (verifying) {
        char name[16] = "";
        prctl(PR_GET_NAME, name);
        ok &= expect(verifyPages(&own.pages), own.name, "all of its memory")
            & expect(gettid() == own.tid, own.name, "its thread id")
            & expect(strcmp(name, own.name) == 0, own.name, "its name");
        for (size_t i = 0; i < sizeof own.canary; i++) ok &= expect(own.canary[i] == 'a' + own.number, own.name, "thread-local storage");
        logLine("# %s (tid %d): verified, %s", own.name, (int)own.tid, ok ? "ok" : "FAILED");
    }
    return ok;
}

static void awaitTurn(void) {
    while (turn != own.number) pthread_cond_wait(&turnPassed, &mutex);
}

static void passTurn(void) {
    turn = (turn + 1) % THREADS;
    pthread_cond_broadcast(&turnPassed);
}

static void *work(void *number) {
    beginThread((int)(intptr_t)number);
    pthread_mutex_lock(&mutex);
    for (;;) {
        awaitTurn();
        roundOk &= takeTurn();
        passTurn();
    }
    return NULL;
}

int main(int argc, char **argv) {
    parseOptions(argc, argv, 0, "");
    verifyOnSignal();
    beginThread(0);
    for (intptr_t i = 1; i < THREADS; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, work, (void *)i) != 0) errx(1, "pthread_create");
    }
    logLine("# threads pid %d threads %d", (int)getpid(), THREADS);

    pthread_mutex_lock(&mutex);
    for (uint64_t step = 1;; step++) {
        verifying = takeVerificationWanted();
        roundOk = takeTurn();
        passTurn();
        awaitTurn();
        for (int i = 0; i < THREADS; i++) roundOk &= expect(counts[i] == step, "main thread", "a thread's count");
        logStep(step, roundOk);
        if (verifying) logVerify(step, roundOk);
        pthread_mutex_unlock(&mutex);
        pause_(intervalMs);
        pthread_mutex_lock(&mutex);
    }
}
