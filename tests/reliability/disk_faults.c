/* Preloaded into the service or PostgreSQL: what is written below one directory fails as a broken disk would.
 *
 * A byte of the file DISK_FAULTS_CONTROL says how, at any moment; DISK_FAULTS_UNDER is the directory. Reads are left
 * alone. disk.py has the same numbers.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WHOLE, FSYNC_FAILS, READ_ONLY, FULL, SLOW, HANGS };

static volatile unsigned char *control;
static const char *under;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("DISK_FAULTS_CONTROL");
    under = getenv("DISK_FAULTS_UNDER");
    if (!path || !under) return;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return;
    void *page = mmap(NULL, 1, PROT_READ, MAP_SHARED, file, 0);
    if (page != MAP_FAILED) control = page;
    close(file);
}

static int is_under(const char *path) { return !strncmp(path, under, strlen(under)); }

static int fault_of(int file) {
    if (!control || *control == WHOLE) return WHOLE;
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return WHOLE;
    path[length] = 0;
    return is_under(path) ? *control : WHOLE;
}

static int refused(int file, int is_sync) {
    int fault = fault_of(file);
    while (fault == HANGS) {
        usleep(10000);
        fault = fault_of(file);
    }
    if (fault == SLOW && is_sync) usleep(300000);
    if (fault == FSYNC_FAILS && is_sync) return errno = EIO;
    if (fault == READ_ONLY && !is_sync) return errno = EROFS;
    if (fault == FULL && !is_sync) return errno = ENOSPC;
    return 0;
}

#define NEXT(name) ({ static __typeof__(&name) next; if (!next) next = dlsym(RTLD_NEXT, #name); next; })
#define WRITES(type, name, given, passed) \
    type name given { return refused(file, 0) ? -1 : NEXT(name) passed; }
#define SYNCS(name) int name(int file) { return refused(file, 1) ? -1 : NEXT(name)(file); }

WRITES(ssize_t, write, (int file, const void *data, size_t size), (file, data, size))
WRITES(ssize_t, pwrite, (int file, const void *data, size_t size, off_t at), (file, data, size, at))
WRITES(ssize_t, pwrite64, (int file, const void *data, size_t size, off64_t at), (file, data, size, at))
WRITES(ssize_t, pwritev, (int file, const struct iovec *data, int count, off_t at), (file, data, count, at))
WRITES(ssize_t, pwritev64, (int file, const struct iovec *data, int count, off64_t at), (file, data, count, at))
WRITES(int, ftruncate, (int file, off_t size), (file, size))
WRITES(int, ftruncate64, (int file, off64_t size), (file, size))
SYNCS(fsync)
SYNCS(fdatasync)

static int may_open(const char *path, int flags) {
    if (!control || *control != READ_ONLY || (flags & O_ACCMODE) == O_RDONLY || !is_under(path)) return 1;
    errno = EROFS;
    return 0;
}

#define OPENS(name) \
    int name(const char *path, int flags, ...) { \
        va_list more; \
        va_start(more, flags); \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0; \
        va_end(more); \
        return may_open(path, flags) ? NEXT(name)(path, flags, mode) : -1; \
    }

OPENS(open)
OPENS(open64)
