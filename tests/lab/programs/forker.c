// forker: children come and go all the time, some of them executing the program anew, and memory is mapped and unmapped.
// A step is a child that ended with the right status.
#include "steps.h"
#include <sys/wait.h>

enum { ALIVE = 4, AREAS = 8 };

struct Area { struct Pages pages; uint64_t bytes; };

static struct Area areas[AREAS];

static void mapArea(struct Area *area, uint64_t number) {
    uint64_t pages = 16 + mix(number) % 240;
    area->bytes = pages * PAGE;
    fillPages(&area->pages, newMemory(area->bytes, MAP_PRIVATE), pages, number);
}

static bool verifyAreas(void) {
    bool ok = true;
    for (int i = 0; i < AREAS; i++) ok &= verifyPages(&areas[i].pages);
    return ok;
}

static int statusOf(uint64_t step) { return (int)(step % 100) + 1; }

static pid_t startChild(char *program, uint64_t step) {
    pid_t child = fork();
    if (child < 0) err(1, "fork");
    if (child > 0) return child;
    char status[8], wait[16];
    snprintf(status, sizeof status, "%d", statusOf(step));
    snprintf(wait, sizeof wait, "%ld", (long)(step % 5) * intervalMs);
    if (step % 3 == 0) execl("/proc/self/exe", program, "--child", status, wait, (char *)NULL);
    pause_(atol(wait));
    _exit(verifyPages(&areas[step % AREAS].pages) ? atoi(status) : 0);
}

int main(int argc, char **argv) {
    if (argc == 4 && strcmp(argv[1], "--child") == 0) {
        pause_(atol(argv[3]));
        return atoi(argv[2]);
    }
    intervalMs = 20;
    parseOptions(argc, argv, 0, "");
    for (uint64_t i = 0; i < AREAS; i++) mapArea(&areas[i], i);
    verifyOnSignal();
    logLine("# forker pid %d", (int)getpid());

    pid_t alive[ALIVE];
    for (uint64_t started = 1;; started++) {
        struct Area *area = &areas[started % AREAS];
        pid_t *child = &alive[started % ALIVE];
        if (started > ALIVE) {
            uint64_t step = started - ALIVE;
            int status = 0;
            bool ok = expect(waitpid(*child, &status, 0) == *child && WIFEXITED(status) && WEXITSTATUS(status) == statusOf(step),
                "forker", "a child's status");
            logStep(step, ok & expect(verifyPages(&area->pages), "forker", "memory"));
            if (takeVerificationWanted()) logVerify(step, ok & verifyAreas());
        }
        munmap(area->pages.memory, area->bytes);
        mapArea(area, started + AREAS);
        *child = startChild(argv[0], started);
        pause_(intervalMs);
    }
}
