// working-set: memory of which it keeps rewriting a part, HOT_MIB, at RATE_MIB_PER_S, while the rest stays as it is.
#include "steps.h"

int main(int argc, char **argv) {
    parseOptions(argc, argv, 3, "SIZE_MIB HOT_MIB RATE_MIB_PER_S");
    uint64_t pages = strtoull(argv[optind], NULL, 10) * 256, hotPages = strtoull(argv[optind + 1], NULL, 10) * 256;
    uint64_t rate = strtoull(argv[optind + 2], NULL, 10) * 256;
    if (hotPages == 0 || hotPages >= pages) errx(2, "HOT_MIB is at least 1, and less than SIZE_MIB");

    struct Pages cold, hot;
    fillPages(&cold, newMemory((pages - hotPages) * PAGE, MAP_PRIVATE), pages - hotPages, 1);
    fillPages(&hot, newMemory(hotPages * PAGE, MAP_PRIVATE), hotPages, 2);
    verifyOnSignal();

    uint64_t due = 0;  // in pages * 1000
    for (uint64_t step = 1;; step++) {
        uint64_t ignored = 0;
        bool ok = pageHolds(&cold, step % cold.count, &ignored);
        for (due += rate * (uint64_t)intervalMs; due >= 1000; due -= 1000) ok &= stepPages(&hot);
        logStep(step, ok);
        if (takeVerificationWanted()) logVerify(step, verifyPages(&cold) && verifyPages(&hot));
        pause_(intervalMs);
    }
}
