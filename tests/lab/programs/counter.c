// counter: counts, and keeps rewriting SIZE_MIB of memory at RATE_MIB_PER_S. Each page is checked before it is rewritten.
// With a third operand, text, half of the memory holds words.
#include "steps.h"

int main(int argc, char **argv) {
    halfIsText = argc > 1 && !strcmp(argv[argc - 1], "text");
    parseOptions(argc, argv, halfIsText ? 3 : 2, "SIZE_MIB RATE_MIB_PER_S [text]");
    uint64_t pages = strtoull(argv[optind], NULL, 10) * 256, rate = strtoull(argv[optind + 1], NULL, 10) * 256;
    if (pages == 0) errx(2, "SIZE_MIB is at least 1");

    struct Pages memory;
    fillPages(&memory, newMemory(pages * PAGE, MAP_PRIVATE), pages, 1);
    verifyOnSignal();
    logLine("# counter pid %d size %s MiB rate %s MiB/s", (int)getpid(), argv[optind], argv[optind + 1]);

    uint64_t due = 0;  // in pages * 1000
    for (uint64_t step = 1;; step++) {
        bool ok = true;
        // what is due is by steps, not by the clock: a program that stood still has nothing to catch up with
        for (due += rate * (uint64_t)intervalMs; due >= 1000; due -= 1000) ok &= stepPages(&memory);
        if (rate == 0) {
            uint64_t ignored = 0;
            ok = pageHolds(&memory, step % pages, &ignored);
        }
        logStep(step, ok);
        if (takeVerificationWanted()) logVerify(step, verifyPages(&memory));
        pause_(intervalMs);
    }
}
