// shifter: its memory map and its processes are never the same for long: it maps and unmaps, forks children that exit or stay,
// and executes itself anew, unless it is told that it "stays". Everything that it holds is checked at each step.
#include "steps.h"

#include <signal.h>
#include <sys/wait.h>

enum { AREAS = 8, AREA_PAGES = 256, STAYING = 3, STEPS_PER_IMAGE = 400 };

static struct Pages areas[AREAS];
static pid_t staying[STAYING];

static void mapArea(unsigned which, uint64_t seed) {
    fillPages(&areas[which], newMemory(AREA_PAGES * PAGE, MAP_PRIVATE), AREA_PAGES, seed);
}

static bool checkAndRemap(uint64_t step) {
    unsigned which = (unsigned)(step % AREAS);
    bool ok = expect(verifyPages(&areas[which]), "shifter", "an area");
    munmap(areas[which].memory, AREA_PAGES * PAGE);
    mapArea(which, step);
    return ok;
}

// A child that holds memory of its own, born between two looks, until it is told to end: with what it has all right, by 0
static pid_t newStaying(uint64_t seed) {
    pid_t pid = fork();
    if (pid != 0) return pid;
    struct Pages own;
    fillPages(&own, newMemory(AREA_PAGES * PAGE, MAP_PRIVATE), AREA_PAGES, seed);
    sigset_t end;
    sigemptyset(&end);
    sigaddset(&end, SIGUSR2);
    bool ok = true;
    struct timespec moment = { 0, 20000000 };
    while (sigtimedwait(&end, NULL, &moment) != SIGUSR2) ok &= stepPages(&own);
    _exit(ok && verifyPages(&own) && verifyPages(&areas[0]) ? 0 : 1);
}

static bool ended(pid_t pid) {
    int status;
    return waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool replaceStaying(uint64_t step) {
    pid_t *child = &staying[step / 10 % STAYING];
    bool ok = true;
    if (*child != 0) ok = expect(kill(*child, SIGUSR2) == 0 && ended(*child), "shifter", "a child");
    *child = newStaying(step);
    return ok;
}

static bool shortChild(void) {
    pid_t pid = fork();
    if (pid == 0) _exit(verifyPages(&areas[1]) ? 0 : 1);
    return expect(ended(pid), "shifter", "a short child");
}

int main(int argc, char **argv) {
    bool stays = argc > 1 && strcmp(argv[argc - 1], "stays") == 0;
    parseOptions(argc, argv, stays ? 2 : 1, "FIRST_STEP [stays]");
    uint64_t first = strtoull(argv[optind], NULL, 10);
    sigset_t end;
    sigemptyset(&end);
    sigaddset(&end, SIGUSR2);
    sigprocmask(SIG_BLOCK, &end, NULL);
    verifyOnSignal();
    for (unsigned which = 0; which < AREAS; which++) mapArea(which, first + which);
    for (uint64_t step = first; stays || step < first + STEPS_PER_IMAGE; step++) {
        bool ok = checkAndRemap(step);
        if (step % 10 == 0) ok &= replaceStaying(step);
        if (step % 7 == 0) ok &= shortChild();
        logStep(step, ok);
        if (takeVerificationWanted()) {
            bool all = true;
            for (unsigned which = 0; which < AREAS; which++) all &= verifyPages(&areas[which]);
            logVerify(step, all);
        }
        pause_(intervalMs);
    }

    bool ok = true;
    for (unsigned child = 0; child < STAYING; child++) {
        if (staying[child] != 0) ok &= kill(staying[child], SIGUSR2) == 0 && ended(staying[child]);
    }
    expect(ok, "shifter", "a child at the end");
    char next[24];
    snprintf(next, sizeof next, "%llu", (unsigned long long)(first + STEPS_PER_IMAGE));
    // the program that comes after has the same pid, and nothing else in common
    argv[optind] = next;
    execv("/proc/self/exe", argv);
    err(1, "exec");
}
