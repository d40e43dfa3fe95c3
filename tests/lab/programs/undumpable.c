// undumpable HOW: counts, and holds something that CRIU refuses to dump: sysv (shared memory of an IPC namespace that is
// not dumped along), io-uring, or inotify (a watch on /proc).
#include "steps.h"
#include <linux/io_uring.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/shm.h>
#include <sys/syscall.h>

static void holdSystemVMemory(void) {
    int id = shmget(IPC_PRIVATE, PAGE, IPC_CREAT | 0600);
    char *memory = id < 0 ? (void *)-1 : shmat(id, NULL, 0);
    if (memory == (void *)-1) err(1, "System V shared memory");
    shmctl(id, IPC_RMID, NULL);  // goes with the program
    memory[0] = 1;
}

static void holdIoUring(void) {
    struct io_uring_params parameters = { 0 };
    if (syscall(SYS_io_uring_setup, 4, &parameters) < 0) err(1, "io_uring_setup");
}

static void holdInotify(void) {
    int watcher = inotify_init();
    if (watcher < 0 || inotify_add_watch(watcher, "/proc/self", IN_ALL_EVENTS) < 0) err(1, "inotify");
}

int main(int argc, char **argv) {
    parseOptions(argc, argv, 1, "sysv|io-uring|inotify");
    const char *how = argv[optind];
    if (strcmp(how, "sysv") == 0) holdSystemVMemory();
    else if (strcmp(how, "io-uring") == 0) holdIoUring();
    else if (strcmp(how, "inotify") == 0) holdInotify();
    else errx(2, "no such thing: %s", how);

    struct Pages memory;
    fillPages(&memory, newMemory(256 * PAGE, MAP_PRIVATE), 256, 1);
    verifyOnSignal();
    logLine("# undumpable pid %d: %s", (int)getpid(), how);
    for (uint64_t step = 1;; step++) {
        logStep(step, stepPages(&memory));
        if (takeVerificationWanted()) logVerify(step, verifyPages(&memory));
        pause_(intervalMs);
    }
}
