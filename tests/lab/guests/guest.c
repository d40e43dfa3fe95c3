// lab-guest: what the two guests of a pair do for each other: run a command there, with its input, output and status;
// agree on the time; and wait for a file or a process without polling. One static program: under software emulation
// starting an interpreter costs more than what it is asked to do.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <limits.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { COMMAND_MAX = 128 * 1024, LOST = 255 };

static struct sockaddr_in address(const char *host, const char *port) {
    struct sockaddr_in result = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)) };
    if (inet_pton(AF_INET, host, &result.sin_addr) != 1) errx(2, "%s is not an address", host);
    return result;
}

static bool writeAll(int to, const char *bytes, size_t length) {
    while (length > 0) {
        ssize_t n = write(to, bytes, length);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        bytes += n;
        length -= (size_t)n;
    }
    return true;
}

static void noDelay(int socket) {
    int on = 1;
    setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

// ---- serve: a connection is a command, a NUL, and its input; back come its output and one byte, its status ----------

// Answers each byte with the time, for sync-clock
static void tellTime(int peer) {
    char byte;
    while (read(peer, &byte, 1) == 1) {
        int64_t time = now();
        if (!writeAll(peer, (char *)&time, sizeof time)) return;
    }
}

static void serveOne(int peer) {
    static char command[COMMAND_MAX];
    size_t length = 0;
    do {  // a byte at a time: what follows the command is its input
        if (length == sizeof command || read(peer, command + length, 1) != 1) return;
    } while (command[length++] != 0);
    if (command[0] == 0) {
        tellTime(peer);
        return;
    }
    pid_t child = fork();
    if (child == 0) {
        setsid();
        for (int fd = 0; fd < 3; fd++) dup2(peer, fd);
        close(peer);
        execl("/bin/bash", "bash", "-c", command, NULL);
        _exit(127);
    }
    int status = 0;
    waitpid(child, &status, 0);
    char code = (char)(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    writeAll(peer, &code, 1);
    // what the command left running may hold the socket still; and input that nobody read would turn the end into a reset
    shutdown(peer, SHUT_WR);
    while (read(peer, command, sizeof command) > 0) {}
}

static void serve(const char *host, const char *port) {
    struct sockaddr_in here = address(host, port);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&here, sizeof here) < 0 || listen(listener, 16) < 0) err(1, "listen");
    if (daemon(0, 1) < 0) err(1, "daemon");
    for (;;) {
        int peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        while (waitpid(-1, NULL, WNOHANG) > 0) {}
        if (peer < 0) continue;
        noDelay(peer);
        if (fork() == 0) {
            serveOne(peer);
            _exit(0);
        }
        close(peer);
    }
}

// ---- there ----------------------------------------------------------------------------------------------------------

// The other guest may still be booting: `seconds` is how long that may take
static int connectTo(const char *host, const char *port, int seconds) {
    struct sockaddr_in there = address(host, port);
    for (int64_t deadline = now() + seconds * 1000000000LL;;) {
        int peer = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connect(peer, (struct sockaddr *)&there, sizeof there) == 0) {
            noDelay(peer);
            return peer;
        }
        close(peer);
        if (now() > deadline) err(LOST, "connect to %s", host);
        usleep(50 * 1000);
    }
}

static int there(const char *host, const char *port, char **words) {
    signal(SIGPIPE, SIG_IGN);
    int peer = connectTo(host, port, 60);
    for (; *words != NULL; words++)
        if (!writeAll(peer, *words, strlen(*words)) || !writeAll(peer, words[1] != NULL ? " " : "", 1)) err(LOST, "%s", host);

    static char bytes[1 << 16];
    struct pollfd ends[] = { { .fd = peer, .events = POLLIN }, { .fd = STDIN_FILENO, .events = POLLIN } };
    int last = -1;  // the last byte that came is not passed on before another follows it: it may be the status
    for (;;) {
        if (poll(ends, 2, -1) < 0) err(LOST, "poll");
        if (ends[1].revents != 0) {
            ssize_t n = read(STDIN_FILENO, bytes, sizeof bytes);
            if (n <= 0 || !writeAll(peer, bytes, (size_t)n)) {
                shutdown(peer, SHUT_WR);
                ends[1].fd = -1;
            }
        }
        if (ends[0].revents != 0) {
            ssize_t n = read(peer, bytes + 1, sizeof bytes - 1);
            if (n == 0 && last >= 0) return last;
            if (n <= 0) err(LOST, "%s ended without a status", host);
            bytes[0] = (char)last;
            if (last >= 0) writeAll(STDOUT_FILENO, bytes, (size_t)n);
            else writeAll(STDOUT_FILENO, bytes + 1, (size_t)n - 1);
            last = (unsigned char)bytes[n];
        }
    }
}

// ---- sync-clock -----------------------------------------------------------------------------------------------------

// Prints by how many nanoseconds the other guest's clock is ahead, and, with `set`, makes it none. Of many answers the
// quickest counts.
static int syncClock(const char *host, const char *port, bool set) {
    int peer = connectTo(host, port, 60);
    int64_t ahead = 0, quickest = INT64_MAX;
    if (!writeAll(peer, "", 1)) err(LOST, "%s", host);
    for (int i = 0; i < 100; i++) {
        int64_t time, asked = now();
        if (!writeAll(peer, "", 1) || recv(peer, &time, sizeof time, MSG_WAITALL) != sizeof time) err(LOST, "%s", host);
        int64_t took = now() - asked;
        if (took >= quickest) continue;
        quickest = took;
        ahead = time - (asked + took / 2);
    }
    if (set) {
        int64_t time = now() + ahead;
        if (clock_settime(CLOCK_REALTIME, &(struct timespec){ time / 1000000000, time % 1000000000 }) < 0) err(1, "clock_settime");
    }
    printf("%lld %lld\n", (long long)ahead, (long long)quickest);
    return 0;
}

// ---- await-file, await-exit -----------------------------------------------------------------------------------------

static int awaitFile(const char *path, int seconds) {
    char directory[PATH_MAX];
    snprintf(directory, sizeof directory, "%s", path);
    char *slash = strrchr(directory, '/');
    if (slash == NULL) errx(2, "%s is not an absolute path", path);
    slash[slash == directory ? 1 : 0] = 0;

    int watch = inotify_init1(IN_CLOEXEC);
    if (inotify_add_watch(watch, directory, IN_CREATE | IN_MOVED_TO) < 0) err(1, "%s", directory);
    int64_t deadline = now() + seconds * 1000000000LL;
    while (access(path, F_OK) < 0) {
        int left = (int)((deadline - now()) / 1000000);
        if (left <= 0 || poll(&(struct pollfd){ .fd = watch, .events = POLLIN }, 1, left) == 0)
            errx(1, "%s is not there after %d s", path, seconds);
        char events[4096];
        if (read(watch, events, sizeof events) < 0) err(1, "inotify");
    }
    return 0;
}

// Also of a process that is not a child of this one; says so
static int awaitExit(pid_t pid) {
    int process = (int)syscall(SYS_pidfd_open, pid, 0);
    if (process >= 0) poll(&(struct pollfd){ .fd = process, .events = POLLIN }, 1, -1);
    puts("exited");
    return 0;
}

// ---- tsc-khz --------------------------------------------------------------------------------------------------------

// The processor's time stamp and the time, read as close together as can be
static uint64_t stamp(int64_t *time) {
    uint64_t best = UINT64_MAX, result = 0;
    for (int i = 0; i < 20; i++) {
        struct timespec t;
        uint64_t before = __builtin_ia32_rdtsc();
        clock_gettime(CLOCK_MONOTONIC, &t);
        uint64_t took = __builtin_ia32_rdtsc() - before;
        if (took >= best) continue;
        best = took;
        result = before + took / 2;
        *time = t.tv_sec * 1000000000LL + t.tv_nsec;
    }
    return result;
}

// Prints how fast this machine's time stamp counts, which is what an emulated one counts by. A guest's kernel that has to
// find out itself errs, by a factor even, while the machine is busy.
static int tscKilohertz(void) {
    int64_t from, to;
    uint64_t began = stamp(&from);
    usleep(50 * 1000);
    uint64_t counted = stamp(&to) - began;
    printf("%.0f\n", (double)counted * 1e6 / (double)(to - from));
    return 0;
}

int main(int argc, char **argv) {
    const char *verb = argc > 1 ? argv[1] : "";
    if (strcmp(verb, "serve") == 0 && argc == 4) serve(argv[2], argv[3]);
    if (strcmp(verb, "there") == 0 && argc > 4) return there(argv[2], argv[3], argv + 4);
    if (strcmp(verb, "compare-clock") == 0 && argc == 4) return syncClock(argv[2], argv[3], false);
    if (strcmp(verb, "sync-clock") == 0 && argc == 4) return syncClock(argv[2], argv[3], true);
    if (strcmp(verb, "await-file") == 0 && argc == 4) return awaitFile(argv[2], atoi(argv[3]));
    if (strcmp(verb, "await-exit") == 0 && argc == 3) return awaitExit(atoi(argv[2]));
    if (strcmp(verb, "tsc-khz") == 0 && argc == 2) return tscKilohertz();
    errx(2, "serve ADDRESS PORT | there ADDRESS PORT CMD... | compare-clock ADDRESS PORT | sync-clock ADDRESS PORT | "
            "await-file PATH SECONDS | await-exit PID | tsc-khz");
}
