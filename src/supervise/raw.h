/* Raw: system calls without a C library, for the stub and for children that share unum-init's
 * memory and therefore must not touch errno, locks or the heap. Results are negative errnos. */
#ifndef UNUM_SUPERVISE_RAW_H
#define UNUM_SUPERVISE_RAW_H

#include <linux/capability.h>
#include <linux/prctl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>

#if defined(__x86_64__)
static inline long raw6(long number, long a, long b, long c, long d, long e, long f)
{
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long result = 0;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}
#elif defined(__aarch64__)
static inline long raw6(long number, long a, long b, long c, long d, long e, long f)
{
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc 0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                     : "memory");
    return x0;
}
#else
#error "the stub knows x86-64 and aarch64"
#endif

#define RAW(number, a, b, c, d, e)                                                                 \
    raw6((number), (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), 0)

static inline size_t raw_length(const char *text)
{
    size_t length = 0;
    while (text[length] != 0) length++;
    return length;
}

enum {
    RAW_ENOENT = 2,
    RAW_EACCES = 13,
    RAW_PATH_BYTES_MAX = 1024,
};

/* The capabilities a task's root keeps over its own ids: those that a server needs to become
 * another user. All of them mean nothing outside the task's user namespace. */
static const uint64_t raw_capabilities_kept =
    1ull << CAP_CHOWN | 1ull << CAP_DAC_OVERRIDE | 1ull << CAP_FOWNER | 1ull << CAP_FSETID |
    1ull << CAP_KILL | 1ull << CAP_SETGID | 1ull << CAP_SETUID | 1ull << CAP_SETPCAP |
    1ull << CAP_NET_BIND_SERVICE | 1ull << CAP_NET_RAW | 1ull << CAP_SYS_CHROOT |
    1ull << CAP_AUDIT_WRITE | 1ull << CAP_SETFCAP;

/* No new privileges, and never again a capability outside KEPT. */
static inline void raw_confine(uint64_t kept)
{
    (void)RAW(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    for (unsigned long capability = 0; capability < 64; capability++) {
        if ((kept >> capability & 1) != 0) continue;
        if (RAW(SYS_prctl, PR_CAPBSET_DROP, capability, 0, 0, 0) != 0) break; /* past the last */
    }
}

/* Execute ARGV[0], along PATH of ENVP when it has no slash. Returns only with the errno. */
static inline int raw_execute(char *const *argv, char *const *envp)
{
    const char *name = argv[0];
    const char *path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    for (size_t i = 0; name[i] != 0; i++) {
        if (name[i] == '/') return (int)-RAW(SYS_execve, name, argv, envp, 0, 0);
    }
    for (char *const *entry = envp; *entry != NULL; entry++) {
        const char *e = *entry;
        if (e[0] == 'P' && e[1] == 'A' && e[2] == 'T' && e[3] == 'H' && e[4] == '=') path = e + 5;
    }
    size_t name_length = raw_length(name);
    int error = RAW_ENOENT;
    while (*path != 0) {
        char full[RAW_PATH_BYTES_MAX];
        size_t length = 0;
        while (path[length] != 0 && path[length] != ':') length++;
        if (length > 0 && length + name_length + 2 <= sizeof full) {
            for (size_t i = 0; i < length; i++) full[i] = path[i];
            full[length] = '/';
            for (size_t i = 0; i <= name_length; i++) full[length + 1 + i] = name[i];
            int tried = (int)-RAW(SYS_execve, full, argv, envp, 0, 0);
            if (tried != RAW_ENOENT) error = tried;
            if (tried != RAW_ENOENT && tried != RAW_EACCES) return error;
        }
        path += length;
        if (*path == ':') path++;
    }
    return error;
}

#endif
