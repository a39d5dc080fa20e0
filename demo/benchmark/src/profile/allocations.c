/* Counts allocations by who asks for them: preloaded into a server by `demo/bench --profile`.
 *
 * The counters lie in a file that all processes map, so that workers, which are forked, count into the same
 * ones. A slot belongs to one page of code; the benchmark looks up in /proc/PID/maps which library that is. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SLOTS = 16384 };

/* profile/heap.rs reads this. */
struct slot {
    uint64_t page, calls, bytes;
};

static struct slot *slots;

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

__attribute__((constructor)) static void begin(void)
{
    const char *file = getenv("STRONGROOM_ALLOCATIONS");
    int descriptor = file ? open(file, O_RDWR | O_CLOEXEC) : -1;
    if (descriptor < 0)
        return;
    void *memory = mmap(NULL, SLOTS * sizeof(struct slot), PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    close(descriptor);
    if (memory != MAP_FAILED)
        __atomic_store_n(&slots, memory, __ATOMIC_RELEASE);
}

static void count(void *caller, size_t bytes)
{
    struct slot *table = __atomic_load_n(&slots, __ATOMIC_ACQUIRE);
    if (!table)
        return;
    uint64_t page = (uintptr_t)caller >> 12;
    for (unsigned probe = 0; probe < SLOTS; probe++) {
        struct slot *slot = &table[(page * 0x9e3779b97f4a7c15u + probe) % SLOTS];
        uint64_t owner = __atomic_load_n(&slot->page, __ATOMIC_RELAXED);
        if (owner == 0)
            __atomic_compare_exchange_n(&slot->page, &owner, page, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
        if (owner == 0 || owner == page) {
            __atomic_fetch_add(&slot->calls, 1, __ATOMIC_RELAXED);
            __atomic_fetch_add(&slot->bytes, bytes, __ATOMIC_RELAXED);
            return;
        }
    }
}

void *malloc(size_t size)
{
    count(__builtin_return_address(0), size);
    return __libc_malloc(size);
}

void *calloc(size_t number, size_t size)
{
    count(__builtin_return_address(0), number * size);
    return __libc_calloc(number, size);
}

void *realloc(void *old, size_t size)
{
    count(__builtin_return_address(0), size);
    return __libc_realloc(old, size);
}

void *memalign(size_t alignment, size_t size)
{
    count(__builtin_return_address(0), size);
    return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    count(__builtin_return_address(0), size);
    return __libc_memalign(alignment, size);
}

int posix_memalign(void **result, size_t alignment, size_t size)
{
    count(__builtin_return_address(0), size);
    *result = __libc_memalign(alignment, size);
    return *result ? 0 : ENOMEM;
}
