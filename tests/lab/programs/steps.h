// What the test programs share: the log of steps, memory whose content proves itself, and the signal that asks for a
// full verification. The format of the log is in ../README.md.
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define UNUSED __attribute__((unused))

// ---- options --------------------------------------------------------------------------------------------------------

static int logFile = -1;
static long intervalMs = 5;

// Reads --log PATH and --interval-ms N; what is left begins at argv[optind]
static UNUSED void parseOptions(int argc, char **argv, int operands, const char *usage) {
    static const struct option options[] = { { "log", 1, NULL, 'l' }, { "interval-ms", 1, NULL, 'i' }, { 0, 0, NULL, 0 } };
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option == 'i') intervalMs = atol(optarg);
        else if (option != 'l') exit(2);
        else if ((logFile = open(optarg, O_WRONLY | O_CREAT | O_APPEND, 0644)) < 0) err(1, "%s", optarg);
    }
    if (logFile < 0 || intervalMs < 1 || argc - optind != operands)
        errx(2, "usage: %s --log PATH [--interval-ms N] %s", argv[0], usage);
}

// ---- the log --------------------------------------------------------------------------------------------------------

// One write a line: lines of several processes do not mix
static UNUSED void __attribute__((format(printf, 1, 2))) logLine(const char *format, ...) {
    char line[256];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line - 1, format, arguments);
    va_end(arguments);
    if (length > (int)sizeof line - 2) length = sizeof line - 2;
    line[length++] = '\n';
    if (write(logFile, line, (size_t)length) != length) err(1, "log");
}

static uint64_t nanoseconds(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

static UNUSED void logStep(uint64_t step, bool ok) {
    logLine("%llu %llu %llu %s", (unsigned long long)step, (unsigned long long)nanoseconds(CLOCK_MONOTONIC),
        (unsigned long long)nanoseconds(CLOCK_REALTIME), ok ? "ok" : "FAILED");
}

static UNUSED void logVerify(uint64_t step, bool ok) {
    logLine("verify %s %llu", ok ? "ok" : "FAILED", (unsigned long long)step);
}

// Says in the log what is wrong, and returns whether all is well
static UNUSED bool expect(bool ok, const char *who, const char *what) {
    if (!ok) logLine("# %s (pid %d): %s is not as it was", who, (int)getpid(), what);
    return ok;
}

// ---- pace, and the wish for a verification --------------------------------------------------------------------------

static UNUSED void pause_(long milliseconds) {
    struct timespec t = { milliseconds / 1000, milliseconds % 1000 * 1000000 };
    clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
}

static volatile sig_atomic_t verificationWanted;

static void wantVerification(int signal) {
    (void)signal;
    verificationWanted = 1;
}

static UNUSED void verifyOnSignal(void) {
    struct sigaction action = { .sa_handler = wantVerification, .sa_flags = SA_RESTART };
    sigaction(SIGUSR1, &action, NULL);
}

static UNUSED bool takeVerificationWanted(void) {
    bool wanted = verificationWanted;
    if (wanted) verificationWanted = 0;
    return wanted;
}

// ---- memory whose content follows from how often it was written -----------------------------------------------------

enum { PAGE = 4096, PAGE_WORDS = PAGE / 8 };

// Write number k goes to page (k * stride) % count, and its content is a pseudo-random function of seed and k alone. So
// `writes` says what every page must hold. `sum` is kept from write to write, apart from the pages themselves.
struct Pages {
    uint64_t *memory, count, stride, writes, seed, sum;
};

static uint64_t mix(uint64_t x) {  // splitmix64
    x += 0x9e3779b97f4a7c15U;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
    return x ^ (x >> 31);
}

// The lower half of all memory then holds words out of 64, as text does; what is random cannot be compressed
static bool halfIsText;

static uint64_t content(const struct Pages *p, const uint64_t *page, uint64_t number) {
    uint64_t random = mix(number);
    if (!halfIsText || page >= p->memory + p->count / 2 * PAGE_WORDS) return random;
    uint64_t word = mix(random % 64), text = 0;
    for (int i = 0; i < 8; i++, word >>= 5) text = text << 8 | (i == 0 ? ' ' : 'a' + word % 26);
    return text;
}

static uint64_t *pageOf(const struct Pages *p, uint64_t write) {
    return p->memory + write % p->count * p->stride % p->count * PAGE_WORDS;
}

static bool pageHolds(const struct Pages *p, uint64_t write, uint64_t *sum) {
    uint64_t *page = pageOf(p, write), first = mix(p->seed ^ mix(write));
    bool same = true;
    for (uint64_t w = 0; w < PAGE_WORDS; w++) {
        same &= page[w] == content(p, page, first + w);
        *sum += page[w];
    }
    return same;
}

static void writePage(struct Pages *p) {
    uint64_t *page = pageOf(p, p->writes), first = mix(p->seed ^ mix(p->writes));
    for (uint64_t w = 0; w < PAGE_WORDS; w++) p->sum += page[w] = content(p, page, first + w);
    p->writes++;
}

static UNUSED uint64_t *newMemory(uint64_t bytes, int sharing) {
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, sharing | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) err(1, "mmap");
    return memory;
}

static UNUSED void fillPages(struct Pages *p, uint64_t *memory, uint64_t count, uint64_t seed) {
    *p = (struct Pages){ .memory = memory, .count = count, .stride = (count * 5 / 8) | 1, .seed = seed };
    for (;;) {  // a stride without a common divisor visits every page
        uint64_t a = p->stride, b = count;
        while (b != 0) { uint64_t rest = a % b; a = b; b = rest; }
        if (a == 1) break;
        p->stride += 2;
    }
    while (p->writes < count) writePage(p);
}

// Writes the next page, after a look at what it held
static UNUSED bool stepPages(struct Pages *p) {
    uint64_t held = 0;
    bool ok = pageHolds(p, p->writes - p->count, &held);
    p->sum -= held;
    writePage(p);
    return ok;
}

static UNUSED bool verifyPages(const struct Pages *p) {
    uint64_t sum = 0;
    bool ok = true;
    for (uint64_t write = p->writes - p->count; write < p->writes; write++) ok &= pageHolds(p, write, &sum);
    return ok && sum == p->sum;
}
