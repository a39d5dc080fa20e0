/* A program with a life: it signs with a key of a token while it forks, exits, loads and unloads the provider.
 *
 *     life ACTION URI [A [B]]      with OPENSSL_CONF in the environment, as any program that uses OpenSSL
 *
 * Written in C, without this project's libraries: what it does, somebody's server does. It prints one line, and ends with 0
 * only if every signature was made and verified. */

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <openssl/conf.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/provider.h>
#include <openssl/store.h>
#include <openssl/x509.h>

/* How long a child may take, in seconds: more than the longest wait of the provider and of the module. */
#define PATIENCE 60

static const char *uri;

static long long now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

static EVP_PKEY *load(OSSL_LIB_CTX *context)
{
    EVP_PKEY *key = NULL;
    OSSL_STORE_CTX *store = OSSL_STORE_open_ex(uri, context, NULL, NULL, NULL, NULL, NULL, NULL);
    for (int round = 0; store && !key && !OSSL_STORE_eof(store) && round < 100; round++) {
        OSSL_STORE_INFO *info = OSSL_STORE_load(store);
        if (info)
            key = OSSL_STORE_INFO_get1_PKEY(info);
        OSSL_STORE_INFO_free(info);
    }
    OSSL_STORE_close(store);
    return key;
}

/* The public half, as OpenSSL's own provider has it. */
static EVP_PKEY *public_half(EVP_PKEY *key)
{
    unsigned char *der = NULL;
    int length = i2d_PUBKEY(key, &der);
    const unsigned char *at = der;
    static OSSL_LIB_CTX *plain;
    if (!plain)
        plain = OSSL_LIB_CTX_new();
    EVP_PKEY *public = length > 0 ? d2i_PUBKEY_ex(NULL, &at, length, plain, NULL) : NULL;
    OPENSSL_free(der);
    return public;
}

/* Signs `number` and verifies the signature. */
static int sign(OSSL_LIB_CTX *context, EVP_PKEY *key, EVP_PKEY *public, long number)
{
    unsigned char signature[1024];
    size_t size = sizeof signature;
    EVP_MD_CTX *signer = EVP_MD_CTX_new(), *verifier = EVP_MD_CTX_new();
    int ok = signer && verifier
        && EVP_DigestSignInit_ex(signer, NULL, "SHA256", context, NULL, key, NULL) == 1
        && EVP_DigestSign(signer, signature, &size, (unsigned char *)&number, sizeof number) == 1
        && (!public
            || (EVP_DigestVerifyInit_ex(verifier, NULL, "SHA256", NULL, NULL, public, NULL) == 1
                && EVP_DigestVerify(verifier, signature, size, (unsigned char *)&number, sizeof number) == 1));
    EVP_MD_CTX_free(signer);
    EVP_MD_CTX_free(verifier);
    return ok;
}

/* The newest error: many processes fail at once, and one line of each is enough. */
static void complain(const char *who)
{
    const char *data = NULL;
    unsigned long code = ERR_peek_last_error_all(NULL, NULL, NULL, &data, NULL);
    fprintf(stderr, "%s: %lx %s\n", who, code, data ? data : "");
}

struct signer {
    pthread_t thread;
    EVP_PKEY *key, *public;
    atomic_long made, failed;
};

static atomic_int stop;

static void *sign_until_stopped(void *argument)
{
    struct signer *signer = argument;
    for (long number = 0; !atomic_load(&stop); number++) {
        if (sign(NULL, signer->key, signer->public, number))
            atomic_fetch_add(&signer->made, 1);
        else
            atomic_fetch_add(&signer->failed, 1);
    }
    return NULL;
}

static struct signer *start(int threads, EVP_PKEY *key, EVP_PKEY *public)
{
    struct signer *signers = calloc(threads, sizeof *signers);
    for (int i = 0; i < threads; i++) {
        signers[i].key = key;
        signers[i].public = public;
        pthread_create(&signers[i].thread, NULL, sign_until_stopped, &signers[i]);
    }
    return signers;
}

/* Waits for a child: 0 if it ended well. */
static int bad_end(pid_t child)
{
    int status = -1;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    if (WIFSIGNALED(status))
        fprintf(stderr, "process %d: signal %d\n", child, WTERMSIG(status));
    return status != 0;
}

/* A child of a threaded parent, and its own child. Both end as programs do, with exit handlers. */
static int generation(EVP_PKEY *key, EVP_PKEY *public, int left)
{
    pid_t child = fork();
    if (child == 0) {
        alarm(PATIENCE);
        int ok = sign(NULL, key, public, left);
        if (!ok)
            complain("child");
        if (left > 1)
            ok = !generation(key, public, left - 1) && ok;
        exit(!ok);
    }
    return bad_end(child);
}

static int forks(int threads, int children)
{
    EVP_PKEY *key = load(NULL), *public = key ? public_half(key) : NULL;
    if (!public)
        return complain("load"), 1;
    struct signer *signers = start(threads, key, public);
    int failed = 0;
    for (int i = 0; i < children; i++) {
        /* At another point of a signature each time. */
        usleep(300 + 137 * (i % 50));
        failed += generation(key, public, 3);
    }
    atomic_store(&stop, 1);
    long made = 0, bad = 0;
    for (int i = 0; i < threads; i++) {
        pthread_join(signers[i].thread, NULL);
        made += signers[i].made;
        bad += signers[i].failed;
    }
    printf("forks: %d families, %d failed; the parent's threads made %ld signatures, %ld failed\n", children, failed,
           made, bad);
    return failed || bad || (threads && made < threads);
}

static long resident_kib(void)
{
    long pages = 0;
    FILE *statm = fopen("/proc/self/statm", "r");
    if (!statm || fscanf(statm, "%*d %ld", &pages) != 1)
        pages = 0;
    if (statm)
        fclose(statm);
    return pages * sysconf(_SC_PAGESIZE) / 1024;
}

static int descriptors(void)
{
    int count = 0;
    DIR *directory = opendir("/proc/self/fd");
    while (directory && readdir(directory))
        count++;
    closedir(directory);
    return count;
}

/* Library contexts that are made, used and freed, each with the configuration; in between the provider alone is unloaded and
 * loaded in the same context. */
static int unload(int rounds)
{
    long memory = 0;
    int files = 0, failed = 0, warm = rounds / 10 + 1;
    for (int i = 0; i < rounds; i++) {
        OSSL_LIB_CTX *context = OSSL_LIB_CTX_new();
        int ok = context && OSSL_LIB_CTX_load_config(context, getenv("OPENSSL_CONF")) == 1;
        EVP_PKEY *key = ok ? load(context) : NULL;
        EVP_PKEY *public = key ? public_half(key) : NULL;
        ok = public && sign(context, key, public, i);
        EVP_PKEY_free(public);
        EVP_PKEY_free(key);
        OSSL_PROVIDER *again = ok ? OSSL_PROVIDER_load(context, "strongroom") : NULL;
        ok = again && OSSL_PROVIDER_unload(again) == 1;
        OSSL_LIB_CTX_free(context);
        if (!ok) {
            complain("round");
            failed++;
        }
        if (i == warm) {
            memory = resident_kib();
            files = descriptors();
        }
    }
    long grown = resident_kib() - memory;
    int more = descriptors() - files;
    printf("unload: %d rounds, %d failed, %ld KiB and %d descriptors more\n", rounds, failed, grown, more);
    return failed || more > 4 || grown > 64 * rounds / 10;
}

/* main returns while threads sign: what is in flight meets the exit handlers. */
static int leave(int threads, int ms)
{
    EVP_PKEY *key = load(NULL);
    if (!key)
        return complain("load"), 1;
    struct signer *signers = start(threads, key, NULL);
    /* Before a thread's first signature it is libcrypto that is in flight, looking for algorithms: its own cleanup does not
     * wait for that, and crashes with a key in a file too. */
    for (int i = 0; i < threads; i++)
        for (int waited = 0; !atomic_load(&signers[i].made) && waited < 100000; waited++)
            usleep(100);
    usleep(1000 * ms);
    long made = 0;
    for (int i = 0; i < threads; i++)
        made += signers[i].made;
    printf("exit: %ld signatures made, %d threads sign on\n", made, threads);
    return 0;
}

/* Workers that begin at the same moment, each with a log-in and one signature. `cold`: each loads the key itself. */
static int storm(int workers, int cold)
{
    EVP_PKEY *key = cold ? NULL : load(NULL), *public = key ? public_half(key) : NULL;
    if (!cold && !public)
        return complain("load"), 1;
    int gate[2];
    if (pipe(gate))
        return 1;
    pid_t *children = calloc(workers, sizeof *children);
    for (int i = 0; i < workers; i++) {
        children[i] = fork();
        if (children[i] < 0)
            return perror("fork"), 1;
        if (children[i] == 0) {
            char byte;
            close(gate[1]);
            alarm(2 * PATIENCE);
            if (read(gate[0], &byte, 1) < 0)
                exit(1);
            if (cold && (key = load(NULL)))
                public = public_half(key);
            int ok = public && sign(NULL, key, public, i);
            if (!ok)
                complain("worker");
            exit(!ok);
        }
    }
    close(gate[0]);
    long long begun = now_ms();
    close(gate[1]);
    int failed = 0;
    for (int i = 0; i < workers; i++)
        failed += bad_end(children[i]);
    printf("storm: %d workers, %d failed, %lld ms\n", workers, failed, now_ms() - begun);
    return failed != 0;
}

/* Signs until its input ends, one line of output for each signature: made or failed. */
static int serve(void)
{
    char line[64];
    EVP_PKEY *key = load(NULL), *public = key ? public_half(key) : NULL;
    if (!public)
        return complain("load"), 1;
    while (fgets(line, sizeof line, stdin)) {
        long long begun = now_ms();
        int ok = sign(NULL, key, public, 1);
        printf("%s %lld\n", ok ? "made" : "failed", now_ms() - begun);
        fflush(stdout);
        if (!ok)
            complain("serve");
        ERR_clear_error();
    }
    return 0;
}

int main(int count, char **arguments)
{
    if (count < 3)
        return fprintf(stderr, "life forks|unload|exit|storm|serve URI [A [B]]\n"), 2;
    const char *action = arguments[1];
    int a = count > 3 ? atoi(arguments[3]) : 0, b = count > 4 ? atoi(arguments[4]) : 0;
    uri = arguments[2];
    if (!strcmp(action, "forks"))
        return forks(a, b);
    if (!strcmp(action, "unload"))
        return unload(a);
    if (!strcmp(action, "exit"))
        return leave(a, b);
    if (!strcmp(action, "storm"))
        return storm(a, b);
    if (!strcmp(action, "serve"))
        return serve();
    return fprintf(stderr, "%s?\n", action), 2;
}
