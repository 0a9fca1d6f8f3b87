/* The threads of a block as fibers: one runs until it has to wait, then the next one does. Nothing else can interrupt a thread, so
   that atomic operations are plain ones; and a block whose threads wait for what never comes is found out. With
   HRM_FAKE_CUDA_BACKWARDS the last thread comes first: kernels that lack a barrier then give other results. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include "device/threads.h"

enum { STACK = 256 << 10, GUARD = 4096 };

static struct warp {
    unsigned live, arrived, who_met; /* lanes, one bit each */
    unsigned met;                    /* how many times */
    int line;
    _Alignas(64) char slots[2][SLOTS];
} warps[MAX_THREADS / WARP];

static struct thread {
    void *stack_pointer;
    enum { READY, WAITS_FOR_BLOCK, WAITS_FOR_WARP, ENDED } state;
    unsigned met; /* how many times its block or warp had met when it began to wait */
} threads[MAX_THREADS];

static unsigned count, running, live, arrived, met;
static int backwards;
static void (*body)(unsigned thread);
static void *main_stack_pointer;

/* Saves what a function has to preserve, and goes on where another stack was left. */
void switch_stacks(void **from, void *to);
__asm__(".text\n"
        "switch_stacks:\n"
        "    push %rbp\n    push %rbx\n    push %r12\n    push %r13\n    push %r14\n    push %r15\n"
        "    mov %rsp, (%rdi)\n"
        "    mov %rsi, %rsp\n"
        "    pop %r15\n    pop %r14\n    pop %r13\n    pop %r12\n    pop %rbx\n    pop %rbp\n"
        "    ret\n");

static int waits(unsigned thread) {
    const struct thread *it = &threads[thread];
    switch (it->state) {
    case WAITS_FOR_BLOCK: return it->met == met;
    case WAITS_FOR_WARP: return it->met == warps[thread / WARP].met;
    default: return it->state == ENDED;
    }
}

static void next_thread(void) {
    unsigned from = running, next = from;
    for (unsigned step = 0; step < count; step++) {
        if (backwards) next = next == 0 ? count - 1 : next - 1;
        else next = next == count - 1 ? 0 : next + 1;
        if (waits(next)) continue;
        running = next;
        if (next != from) switch_stacks(&threads[from].stack_pointer, threads[next].stack_pointer);
        return;
    }
    if (live == 0) switch_stacks(&threads[from].stack_pointer, main_stack_pointer);
    unsigned in_warp = 0;
    for (unsigned thread = 0; thread < count; thread++) in_warp += threads[thread].state == WAITS_FOR_WARP;
    fprintf(stderr, "kernel: %u threads wait for their block, %u for their warp, and no other comes\n", live - in_warp, in_warp);
    abort();
}

static void release_block(void) {
    if (arrived != live) return;
    arrived = 0;
    met++;
}

static void release_warp(struct warp *warp) {
    if (warp->arrived != warp->live) return;
    warp->who_met = warp->arrived;
    warp->arrived = 0;
    warp->met++;
}

static void meet_block(void) {
    struct thread *own = &threads[running];
    own->state = WAITS_FOR_BLOCK;
    own->met = met;
    arrived++;
    release_block();
    if (own->met == met) next_thread();
    own->state = READY;
}

static void *slots(void) {
    struct warp *warp = &warps[running / WARP];
    return warp->slots[warp->met % 2];
}

static unsigned meet_warp(int line) {
    struct thread *own = &threads[running];
    struct warp *warp = &warps[running / WARP];
    if (warp->arrived && warp->line != line) {
        fprintf(stderr, "kernel: lanes of a warp meet in different lines, %d and %d\n", warp->line, line);
        abort();
    }
    own->state = WAITS_FOR_WARP;
    own->met = warp->met;
    warp->line = line;
    warp->arrived |= 1u << running % WARP;
    release_warp(warp);
    if (own->met == warp->met) next_thread();
    own->state = READY;
    return warp->who_met;
}

static void begin(void) {
    body(running);
    struct warp *warp = &warps[running / WARP];
    threads[running].state = ENDED;
    warp->live &= ~(1u << running % WARP);
    live--;
    /* Those that wait already do not wait for this one. */
    if (arrived) release_block();
    if (warp->arrived) release_warp(warp);
    next_thread();
}

static void run(unsigned threads_of_block, void (*body_of_thread)(unsigned thread)) {
    static char *stacks;
    if (!stacks) {
        stacks = mmap(NULL, (size_t)MAX_THREADS * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (stacks == MAP_FAILED) abort();
        for (size_t thread = 0; thread < MAX_THREADS; thread++) mprotect(stacks + thread * STACK, GUARD, PROT_NONE);
    }
    backwards = getenv("HRM_FAKE_CUDA_BACKWARDS") != NULL;
    count = live = threads_of_block;
    body = body_of_thread;
    arrived = 0;
    running = backwards ? count - 1 : 0;
    for (unsigned thread = 0; thread < count; thread++) {
        /* What switch_stacks takes from a stack: six registers, and where to go; the last word aligns it as a call does. */
        void **top = (void **)(stacks + (size_t)(thread + 1) * STACK);
        top[-2] = (void *)begin;
        threads[thread].stack_pointer = top - 8;
        threads[thread].state = READY;
        struct warp *warp = &warps[thread / WARP];
        if (thread % WARP == 0) warp->live = warp->arrived = 0;
        warp->live |= 1u << thread % WARP;
    }
    switch_stacks(&main_stack_pointer, threads[running].stack_pointer);
}

const struct threads fibers = {run, meet_block, slots, meet_warp};
