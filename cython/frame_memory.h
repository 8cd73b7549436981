/* Large pages for large frames: a fault for each 4 KiB costs more than filling them does. */
#ifndef HALI_FRAME_MEMORY_H
#define HALI_FRAME_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#define HALI_HUGE_FROM (4u << 20) /* as NumPy: below it the system call is not won back */

#if defined(__linux__)
#include <sys/mman.h>
#endif

static inline void hali_prefer_huge_pages(void *memory, size_t size) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    uintptr_t first = ((uintptr_t)memory + 4095) & ~(uintptr_t)4095;
    uintptr_t end = ((uintptr_t)memory + size) & ~(uintptr_t)4095;
    if (size >= HALI_HUGE_FROM)
        (void)madvise((void *)first, end - first, MADV_HUGEPAGE); /* a wish; its refusal changes nothing */
#else
    (void)memory, (void)size;
#endif
}

#endif
