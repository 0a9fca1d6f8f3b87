/* What a compiled kernel and the driver know of each other: a launch, and how the threads of a block wait for one another. */
#pragma once

enum {
    WARP = 32,
    MAX_THREADS = 1024, /* of a block */
    SLOTS = 4096,       /* bytes in which the lanes of a warp hand each other values */
    MAX_SHARED = 163 << 10,
};

struct threads {
    /* Runs a body once for each thread of a block, each on a stack of its own. */
    void (*run)(unsigned threads, void (*body)(unsigned thread));
    /* The thread waits for all of its block that have not ended. */
    void (*meet_block)(void);
    /* Where the lanes put values before they meet; after that all may read them, until they have met once more. */
    void *(*slots)(void);
    /* The thread waits for all of its warp that have not ended; one bit for each that came. All have to come from the same line of
       the kernel. */
    unsigned (*meet_warp)(int line);
};

struct launch {
    unsigned grid[3], block[3], shared;
    void **arguments;
    const struct threads *threads;
};

#ifndef __cplusplus
extern const struct threads fibers;
#endif
