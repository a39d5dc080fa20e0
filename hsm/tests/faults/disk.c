/* Preloaded into strongroomd: a disk that fails when a test says so. The file that DISK_FAULT names says what fails:
   "write 28 store.redb" are all writes to files with such a path (28 is ENOSPC), "sync 5 audit" all fsyncs (5 is EIO).
   "hold 3 store.redb" lets three syncs pass and holds the next ones, until it says something else; while one is held there is a
   file beside it whose name ends in ".held".
   If there is a file that DISK_RECORD names, what is done to the store is appended to it: a struct record, and the bytes. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <stdint.h>
#include <unistd.h>

/* The number that the control file has for this call and file; -1: none. */
static int said(const char *call, int fd)
{
    const char *control = getenv("DISK_FAULT");
    int before = errno;
    int file = control ? (int)syscall(SYS_openat, AT_FDCWD, control, O_RDONLY | O_CLOEXEC) : -1;
    char text[256], what[16], part[128], link[64], path[4096];
    int number;
    if (file < 0) {
        errno = before;
        return -1;
    }
    ssize_t length = read(file, text, sizeof text - 1);
    close(file);
    errno = before;
    if (length <= 0)
        return -1;
    text[length] = 0;
    if (sscanf(text, "%15s %d %127s", what, &number, part) != 3 || strcmp(what, call) != 0)
        return -1;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, sizeof path - 1);
    errno = before;
    if (length <= 0)
        return -1;
    path[length] = 0;
    if (!strstr(path, part))
        return -1;
    return number;
}

static int fails(const char *call, int fd)
{
    int number = said(call, fd);
    if (number >= 0)
        errno = number;
    return number >= 0;
}

static void hold(int fd)
{
    static int before = -1, passed;
    static pthread_mutex_t counting = PTHREAD_MUTEX_INITIALIZER;
    char mark[4096];
    int number = said("hold", fd);
    pthread_mutex_lock(&counting);
    if (number != before)
        passed = 0;
    before = number;
    int waits = number >= 0 && passed++ >= number;
    pthread_mutex_unlock(&counting);
    if (!waits)
        return;
    snprintf(mark, sizeof mark, "%s.held", getenv("DISK_FAULT"));
    int file = (int)syscall(SYS_openat, AT_FDCWD, mark, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0)
        abort();
    close(file);
    while (said("hold", fd) >= 0)
        usleep(1000);
}

enum kind { WRITTEN = 1, LENGTH = 2, SYNCED = 3 };

struct record {
    uint64_t kind, at, length;
};

static void note(int fd, enum kind kind, uint64_t at, const void *bytes, size_t length)
{
    const char *name = getenv("DISK_RECORD");
    struct record record = {kind, at, length};
    struct iovec parts[2] = {{&record, sizeof record}, {(void *)bytes, length}};
    char link[64], path[4096];
    int before = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t end = name ? readlink(link, path, sizeof path - 1) : -1;
    if (end > 10 && strncmp(path + end - 10, "store.redb", 10) == 0) {
        int file = (int)syscall(SYS_openat, AT_FDCWD, name, O_WRONLY | O_APPEND | O_CLOEXEC);
        if (file >= 0 && writev(file, parts, 2) != (ssize_t)(sizeof record + length))
            abort();
        if (file >= 0)
            close(file);
    }
    errno = before;
}

ssize_t write(int fd, const void *bytes, size_t length)
{
    return fails("write", fd) ? -1 : syscall(SYS_write, fd, bytes, length);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t at)
{
    if (fails("write", fd))
        return -1;
    ssize_t written = syscall(SYS_pwrite64, fd, bytes, length, at);
    if (written > 0)
        note(fd, WRITTEN, at, bytes, written);
    return written;
}

int ftruncate64(int fd, off64_t length)
{
    if (fails("write", fd))
        return -1;
    int result = (int)syscall(SYS_ftruncate, fd, length);
    if (result == 0)
        note(fd, LENGTH, length, NULL, 0);
    return result;
}

static int synced(int fd, long call)
{
    hold(fd);
    if (fails("sync", fd))
        return -1;
    int result = (int)syscall(call, fd);
    if (result == 0)
        note(fd, SYNCED, 0, NULL, 0);
    return result;
}

int fsync(int fd)
{
    return synced(fd, SYS_fsync);
}

int fdatasync(int fd)
{
    return synced(fd, SYS_fdatasync);
}
