/* HALI_WIDEST before a function: compiled for several vector widths, the widest that this machine has is used.
 *
 * A wheel runs on any x86-64, so the choice is made when the module is loaded. That takes the loader's ifunc, which of
 * the C libraries only glibc has. Results are the same: -ffp-contract=off keeps fused multiply-adds out.
 */
#ifndef HALI_WIDEST_H
#define HALI_WIDEST_H

#include <stdlib.h> /* tells whether this is glibc */

#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && (!defined(__clang__) || __clang_major__ >= 14)
#define HALI_WIDEST __attribute__((target_clones("default", "avx2", "avx512f")))
#else
#define HALI_WIDEST
#endif

#if defined(_MSC_VER)
#define HALI_RESTRICT __restrict
#else
#define HALI_RESTRICT restrict
#endif

#endif
