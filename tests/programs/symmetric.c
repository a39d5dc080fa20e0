/* A program that uses OpenSSL's digests as a library's user does: in parts, copied and forked in the middle.
 *
 *     symmetric digest NAME PROPERTIES SIZE    hashes SIZE bytes
 *
 * Each result is a line: its name, and the bytes in hexadecimal or the last error. With OPENSSL_CONF in the environment, as any
 * program that uses OpenSSL. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/evp.h>

/* Data comes in pieces of this size, in bytes. */
#define PIECE 1001

/* The last text on the error queue, which is empty then. */
static const char *last_error(void)
{
    static char text[1000];
    const char *data;
    int flags;
    strcpy(text, "failed");
    while (ERR_get_error_all(NULL, NULL, NULL, &data, &flags))
        if ((flags & ERR_TXT_STRING) && *data)
            snprintf(text, sizeof(text), "%s", data);
    return text;
}

static void print(const char *name, int done, const unsigned char *bytes, size_t size)
{
    printf("%s ", name);
    for (size_t i = 0; done && i < size; i++)
        printf("%02x", bytes[i]);
    if (done)
        puts("");
    else
        puts(last_error());
    fflush(stdout);
}

static unsigned char *data_of(size_t size)
{
    unsigned char *data = malloc(size + 1);
    for (size_t i = 0; data && i < size; i++)
        data[i] = (unsigned char)(i * i + i / 7);
    return data;
}

static int update(EVP_MD_CTX *context, const unsigned char *data, size_t from, size_t to)
{
    while (from < to) {
        size_t piece = to - from < PIECE ? to - from : PIECE;
        if (!EVP_DigestUpdate(context, data + from, piece))
            return 0;
        from += piece;
    }
    return 1;
}

static void finish(const char *name, EVP_MD_CTX *context, const unsigned char *data, size_t from, size_t to)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int size = 0;
    int done = update(context, data, from, to) && EVP_DigestFinal_ex(context, digest, &size);
    print(name, done, digest, size);
}

static int digest(const char *name, const char *properties, size_t size)
{
    EVP_MD *method = EVP_MD_fetch(NULL, name, properties);
    unsigned char *data = data_of(size), once[EVP_MAX_MD_SIZE];
    unsigned int once_size = 0;
    EVP_MD_CTX *context = EVP_MD_CTX_new(), *copy = EVP_MD_CTX_new();
    if (!method || !data || !context || !copy)
        return 1;
    ERR_clear_error();
    printf("sizes %d %d %lu\n", EVP_MD_get_size(method), EVP_MD_get_block_size(method),
           EVP_MD_get_flags(method));
    int done = EVP_Digest(data, size, once, &once_size, method, NULL);
    print("once", done, once, once_size);
    if (!EVP_DigestInit_ex(context, method, NULL) || !update(context, data, 0, size / 2))
        return 1;
    int copied = EVP_MD_CTX_copy_ex(copy, context);
    if (!copied)
        print("copy", 0, NULL, 0);
    pid_t child = fork();
    if (child == 0) {
        finish("child", context, data, size / 2, size);
        EVP_MD_CTX_free(context);
        fflush(stdout);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    finish("parts", context, data, size / 2, size);
    if (copied)
        finish("copy", copy, data, size / 2, size);
    /* The same context again. */
    if (!EVP_DigestInit_ex(context, method, NULL))
        return 1;
    finish("again", context, data, 0, size);
    /* One that is given up in the middle. */
    if (!EVP_DigestInit_ex(context, method, NULL) || !update(context, data, 0, size))
        return 1;
    EVP_MD_CTX_free(context);
    EVP_MD_CTX_free(copy);
    EVP_MD_free(method);
    free(data);
    return 0;
}

int main(int count, char **arguments)
{
    if (count == 5 && !strcmp(arguments[1], "digest"))
        return digest(arguments[2], arguments[3], strtoul(arguments[4], NULL, 10));
    fprintf(stderr, "symmetric digest NAME PROPERTIES SIZE\n");
    return 2;
}
