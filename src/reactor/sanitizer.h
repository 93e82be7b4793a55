/* Which sanitizer this translation unit is built with, and its calls for stack switches. Without
 * them a sanitizer would take a switch for a wild jump. */
#ifndef UNUM_REACTOR_SANITIZER_H
#define UNUM_REACTOR_SANITIZER_H

#if defined(__SANITIZE_ADDRESS__)
#define REACTOR_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define REACTOR_ASAN 1
#endif
#endif

#if defined(__SANITIZE_THREAD__)
#define REACTOR_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define REACTOR_TSAN 1
#endif
#endif

#ifndef REACTOR_ASAN
#define REACTOR_ASAN 0
#endif
#ifndef REACTOR_TSAN
#define REACTOR_TSAN 0
#endif

#if REACTOR_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if REACTOR_TSAN
#include <sanitizer/tsan_interface.h>
#endif

#endif
