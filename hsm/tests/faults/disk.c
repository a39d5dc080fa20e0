/* Preloaded into strongroomd: a disk that fails when a test says so. The file that DISK_FAULT names says what fails:
   "write 28 store.redb" are all writes to files with such a path (28 is ENOSPC), "sync 5 audit" all fsyncs (5 is EIO). */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static int fails(const char *call, int fd)
{
    const char *control = getenv("DISK_FAULT");
    int before = errno;
    int file = control ? (int)syscall(SYS_openat, AT_FDCWD, control, O_RDONLY | O_CLOEXEC) : -1;
    char text[256], what[16], part[128], link[64], path[4096];
    int number;
    if (file < 0) {
        errno = before;
        return 0;
    }
    ssize_t length = read(file, text, sizeof text - 1);
    close(file);
    errno = before;
    if (length <= 0)
        return 0;
    text[length] = 0;
    if (sscanf(text, "%15s %d %127s", what, &number, part) != 3 || strcmp(what, call) != 0)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, sizeof path - 1);
    errno = before;
    if (length <= 0)
        return 0;
    path[length] = 0;
    if (!strstr(path, part))
        return 0;
    errno = number;
    return 1;
}

ssize_t write(int fd, const void *bytes, size_t length)
{
    return fails("write", fd) ? -1 : syscall(SYS_write, fd, bytes, length);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t at)
{
    return fails("write", fd) ? -1 : syscall(SYS_pwrite64, fd, bytes, length, at);
}

int ftruncate64(int fd, off64_t length)
{
    return fails("write", fd) ? -1 : (int)syscall(SYS_ftruncate, fd, length);
}

int fsync(int fd)
{
    return fails("sync", fd) ? -1 : (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd)
{
    return fails("sync", fd) ? -1 : (int)syscall(SYS_fdatasync, fd);
}
