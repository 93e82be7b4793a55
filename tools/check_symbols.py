#!/usr/bin/env python3
"""The system call lint: libraries of pure folders have no undefined symbol that enters the kernel.

Reads `nm -u` of each static library in the build folder. reactor/ and supervise/ may call the
system; store/ only in the RocksDB shim. The command line and the daemon's main are programs."""
import pathlib
import re
import subprocess
import sys

MAY = {"libreactor.a", "libsupervise.a", "libproto.a"}
PROGRAM_PARTS = {"libcli.a"}
CALLS = set("""
open openat open64 openat64 creat read write pread pwrite pread64 pwrite64 readv writev close fsync fdatasync sync
syncfs ftruncate ftruncate64 fallocate fallocate64 posix_fallocate rename renameat unlink unlinkat mkdir mkdirat
rmdir opendir readdir readdir64 stat stat64 fstat fstat64 lstat statx mmap mmap64 munmap mprotect madvise socket
socketpair bind listen accept accept4 connect send sendto sendmsg recv recvfrom recvmsg shutdown setsockopt
getsockopt poll ppoll select pselect epoll_create epoll_create1 epoll_ctl epoll_wait eventfd timerfd_create
signalfd pipe pipe2 dup dup2 dup3 fcntl fcntl64 ioctl fork vfork clone execve execv execvp execl execlp posix_spawn
posix_spawnp waitpid wait waitid wait4 kill tgkill sigaction sigprocmask signal raise getpid getppid gettid
clock_gettime clock_nanosleep nanosleep usleep sleep time gettimeofday getrandom getentropy random rand srand
srandom rand_r arc4random pthread_create pthread_mutex_lock pthread_cond_wait thrd_create syscall prctl mount
umount umount2 pivot_root setns unshare chdir chroot fopen fopen64 fread fwrite fclose fgets popen system getenv
secure_getenv setenv io_uring_queue_init io_uring_submit
""".split())


def main():
    build = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "build")
    failures, checked = [], 0
    for library in sorted(build.glob("src/*/lib*.a")):
        if library.name in MAY | PROGRAM_PARTS:
            continue
        checked += 1
        text = subprocess.run(["nm", "-u", str(library)], capture_output=True, text=True, check=True).stdout
        member = "?"
        for line in text.splitlines():
            if line.endswith(":"):
                member = line[:-1]
                continue
            match = re.match(r"\s*U (\w+)", line)
            if match and match.group(1) in CALLS and "shim" not in member:
                failures.append(f"{library.name}({member}): {match.group(1)}")
    for failure in failures:
        print(f"symbols: only reactor/, supervise/ and the RocksDB shim call the system: {failure}", file=sys.stderr)
    print(f"symbols: {checked} libraries, {len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
