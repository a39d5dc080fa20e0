/* A program that uses OpenSSL's digests, MACs and ciphers as a library's user does: in parts, copied and forked in the middle.
 *
 *     symmetric digest NAME PROPERTIES SIZE    hashes SIZE bytes
 *     symmetric hmac DIGEST PROPERTIES SIZE    makes the HMAC of SIZE bytes
 *     symmetric cipher NAME PROPERTIES SIZE    encrypts SIZE bytes, and decrypts them
 *     symmetric gcm NAME PROPERTIES SIZE       encrypts and authenticates SIZE bytes, and decrypts them
 *     symmetric cts NAME PROPERTIES SIZE       encrypts SIZE bytes with stolen ciphertext, and decrypts them
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

static void code(const char *name, EVP_MAC_CTX *context, const unsigned char *data, size_t from, size_t to)
{
    unsigned char bytes[EVP_MAX_MD_SIZE];
    size_t size = 0;
    int done = 1;
    for (; done && from < to; from += PIECE)
        done = EVP_MAC_update(context, data + from, to - from < PIECE ? to - from : PIECE);
    done = done && EVP_MAC_final(context, bytes, &size, sizeof(bytes));
    print(name, done, bytes, size);
}

static int hmac(const char *hash, const char *properties, size_t size)
{
    EVP_MAC *method = EVP_MAC_fetch(NULL, "HMAC", properties);
    unsigned char *data = data_of(size), key[20] = "a key";
    EVP_MAC_CTX *context = EVP_MAC_CTX_new(method), *copy;
    OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string("digest", (char *)hash, 0), OSSL_PARAM_construct_end()};
    size_t half = size / 2 / PIECE * PIECE;
    if (!data || !EVP_MAC_init(context, key, sizeof(key), params))
        return 1;
    printf("sizes %zu %zu\n", EVP_MAC_CTX_get_mac_size(context), EVP_MAC_CTX_get_block_size(context));
    for (size_t at = 0; at < half; at += PIECE)
        if (!EVP_MAC_update(context, data + at, PIECE))
            return 1;
    ERR_clear_error();
    copy = EVP_MAC_CTX_dup(context);
    if (!copy)
        print("copy", 0, NULL, 0);
    pid_t child = fork();
    if (child == 0) {
        code("child", context, data, half, size);
        EVP_MAC_CTX_free(context);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    code("parts", context, data, half, size);
    if (copy)
        code("copy", copy, data, half, size);
    /* The same key again. */
    if (!EVP_MAC_init(context, NULL, 0, NULL))
        return 1;
    code("again", context, data, 0, size);
    EVP_MAC_CTX_free(context);
    EVP_MAC_CTX_free(copy);
    EVP_MAC_free(method);
    free(data);
    return 0;
}

/* Encrypts or decrypts where the data lies, from `from` on; the number of bytes at `out` afterwards, or -1. */
static long crypt_in_place(EVP_CIPHER_CTX *context, unsigned char *out, long made, unsigned char *data, size_t from, size_t to)
{
    int size = 0;
    for (; from < to; from += PIECE) {
        unsigned char piece[PIECE + 2 * EVP_MAX_BLOCK_LENGTH];
        int length = (int)(to - from < PIECE ? to - from : PIECE);
        memcpy(piece, data + from, length);
        /* Over itself, where nothing of an earlier piece comes out before it. */
        int in_place = EVP_CIPHER_CTX_get_block_size(context) == 1;
        if (!EVP_CipherUpdate(context, in_place ? piece : out + made, &size, piece, length))
            return -1;
        if (in_place)
            memcpy(out + made, piece, size);
        made += size;
    }
    if (!EVP_CipherFinal_ex(context, out + made, &size))
        return -1;
    return made + size;
}

static void encrypted(const char *name, EVP_CIPHER_CTX *context, long made, unsigned char *data, size_t half, size_t size,
                      const unsigned char *begun)
{
    unsigned char *out = malloc(size + 2 * EVP_MAX_BLOCK_LENGTH), digest[EVP_MAX_MD_SIZE];
    unsigned int length = 0;
    memcpy(out, begun, made);
    long total = crypt_in_place(context, out, made, data, half, size);
    int done = total >= 0 && EVP_Digest(out, total, digest, &length, EVP_sha256(), NULL);
    print(name, done, digest, length);
    free(out);
}

static int cipher(const char *name, const char *properties, size_t size)
{
    EVP_CIPHER *method = EVP_CIPHER_fetch(NULL, name, properties);
    unsigned char *data = data_of(size), *out = malloc(size + 32), *back = malloc(size + 32), key[32] = "a key", iv[16];
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new(), *copy = EVP_CIPHER_CTX_new();
    size_t half = size / 3;
    int made = 0;
    /* A counter that begins again at 0 after three blocks. */
    memset(iv, 0xff, sizeof(iv));
    iv[15] = 0xfd;
    if (!method || !EVP_CipherInit_ex2(context, method, key, iv, 1, NULL))
        return 1;
    printf("sizes %d %d %d %lu\n", EVP_CIPHER_get_key_length(method), EVP_CIPHER_get_iv_length(method),
           EVP_CIPHER_get_block_size(method), EVP_CIPHER_get_flags(method));
    if (!EVP_CipherUpdate(context, out, &made, data, (int)half) || !EVP_CIPHER_CTX_copy(copy, context))
        return 1;
    unsigned char now[16] = {0};
    int known = EVP_CIPHER_CTX_get_updated_iv(context, now, sizeof(now));
    int num = EVP_CIPHER_CTX_get_num(context);
    printf("num %d\n", num);
    if (num == 0 || EVP_CIPHER_get_mode(method) == EVP_CIPH_CTR_MODE)
        print("iv", known, now, (size_t)EVP_CIPHER_get_iv_length(method));
    pid_t child = fork();
    if (child == 0) {
        encrypted("child", context, made, data, half, size, out);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    encrypted("copy", copy, made, data, half, size, out);
    encrypted("parts", context, made, data, half, size, out);
    /* The same key and vector again, and back. */
    if (!EVP_CipherInit_ex2(context, NULL, NULL, NULL, 1, NULL))
        return 1;
    encrypted("again", context, 0, data, 0, size, out);
    long total = 0, length = -1;
    if (EVP_CipherInit_ex2(context, NULL, NULL, iv, 1, NULL))
        total = crypt_in_place(context, out, 0, data, 0, size);
    if (total >= 0 && EVP_CipherInit_ex2(context, NULL, key, iv, 0, NULL))
        length = crypt_in_place(context, back, 0, out, 0, total);
    printf("back %ld %d\n", length, length == (long)size && !memcmp(back, data, size));
    /* Without padding only whole blocks. */
    if (!EVP_CipherInit_ex2(context, NULL, key, iv, 1, NULL) || !EVP_CIPHER_CTX_set_padding(context, 0))
        return 1;
    total = crypt_in_place(context, out, 0, data, 0, size);
    printf("bare %ld\n", total);
    /* Whole blocks at once. */
    if (!EVP_CipherInit_ex2(context, NULL, key, iv, 1, NULL))
        return 1;
    int whole = size >= 32 ? 32 : 0;
    if (whole)
        print("once", EVP_Cipher(context, out, data, whole) > 0, out, whole);
    /* What was changed on its way. */
    if (EVP_CIPHER_get_block_size(method) > 1) {
        if (!EVP_CipherInit_ex2(context, method, key, iv, 0, NULL) || !EVP_CIPHER_CTX_set_padding(context, 1))
            return 1;
        memset(out, 7, 32);
        printf("changed %ld\n", crypt_in_place(context, back, 0, out, 0, 32));
    }
    EVP_CIPHER_CTX_free(context);
    EVP_CIPHER_CTX_free(copy);
    EVP_CIPHER_free(method);
    free(data);
    free(out);
    free(back);
    return 0;
}

/* The rest of a message that is authenticated, with its tag. */
static void sealed(const char *name, EVP_CIPHER_CTX *context, unsigned char *out, size_t half, unsigned char *data, size_t size)
{
    unsigned char digest[EVP_MAX_MD_SIZE], tag[16] = {0};
    unsigned int length = 0;
    long total = crypt_in_place(context, out, (long)half, data, half, size);
    int done = total == (long)size && EVP_Digest(out, size, digest, &length, EVP_sha256(), NULL)
        && EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, sizeof(tag), tag);
    print(name, done, digest, length);
    if (done)
        print("tag", 1, tag, sizeof(tag));
}

/* Whether a message with its tag, of `length` bytes, is taken, and what comes out of it. */
static void opened(const char *name, EVP_CIPHER_CTX *context, const unsigned char *iv, unsigned char *back, unsigned char *out,
                   size_t size, unsigned char *tag, int length, const unsigned char *data)
{
    int left = 0;
    int done = EVP_CipherInit_ex2(context, NULL, NULL, iv, 0, NULL)
        && EVP_CipherUpdate(context, NULL, &left, (const unsigned char *)"header", 6)
        && EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, length, tag);
    long total = done ? crypt_in_place(context, back, 0, out, 0, size) : -2;
    printf("%s %ld %d\n", name, total, total >= 0 && !memcmp(back, data, size));
}

static int gcm(const char *name, const char *properties, size_t size)
{
    EVP_CIPHER *method = EVP_CIPHER_fetch(NULL, name, properties);
    unsigned char *data = data_of(size), *out = malloc(size + 32), *back = malloc(size + 32), *again = malloc(size + 32);
    unsigned char key[32] = "a key", iv[64] = "a vector", tag[16] = {0};
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new(), *copy = EVP_CIPHER_CTX_new();
    size_t half = size / 3 / PIECE * PIECE;
    int made = 0, sizes[] = {12, 1, 16, 60};
    if (!method)
        return 1;
    printf("sizes %d %d %d %lu\n", EVP_CIPHER_get_key_length(method), EVP_CIPHER_get_iv_length(method),
           EVP_CIPHER_get_block_size(method), EVP_CIPHER_get_flags(method));
    for (int i = 0; i < 4; i++) {
        if (!EVP_CipherInit_ex2(context, method, NULL, NULL, 1, NULL)
            || !EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_IVLEN, sizes[i], NULL)
            || !EVP_CipherInit_ex2(context, NULL, key, iv, 1, NULL)
            || !EVP_CipherUpdate(context, NULL, &made, (const unsigned char *)"head", 4) || made != 4
            || !EVP_CipherUpdate(context, NULL, &made, (const unsigned char *)"er", 2))
            return 1;
        for (size_t at = 0; at < half; at += PIECE)
            if (!EVP_CipherUpdate(context, out + at, &made, data + at, PIECE) || made != PIECE)
                return 1;
        ERR_clear_error();
        int copied = EVP_CIPHER_CTX_copy(copy, context);
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) {
            sealed("child", context, out, half, data, size);
            _exit(0);
        }
        waitpid(child, NULL, 0);
        if (copied)
            sealed("copy", copy, out, half, data, size);
        else
            print("copy", 0, NULL, 0);
        sealed("parts", context, out, half, data, size);
        if (!EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, sizeof(tag), tag))
            return 1;
        /* One vector is not used twice. */
        printf("twice %d\n", EVP_CipherUpdate(context, again, &made, data, 1));
        opened("back", context, iv, back, out, size, tag, sizeof(tag), data);
        opened("short", context, iv, back, out, size, tag, 12, data);
        tag[11] ^= 1;
        opened("wrong", context, iv, back, out, size, tag, 12, data);
        tag[11] ^= 1;
        if (size > 0) {
            out[size - 1] ^= 1;
            opened("changed", context, iv, back, out, size, tag, sizeof(tag), data);
        }
    }
    /* Without a vector there is a random one. */
    unsigned char random[2][12] = {{0}};
    for (int i = 0; i < 2; i++)
        if (!EVP_CipherInit_ex2(context, method, key, NULL, 1, NULL)
            || !EVP_CipherUpdate(context, out, &made, data, size > 16 ? 16 : (int)size)
            || !EVP_CipherFinal_ex(context, again, &made)
            || !EVP_CIPHER_CTX_get_original_iv(context, random[i], sizeof(random[i])))
            return 1;
    printf("random %d\n", memcmp(random[0], random[1], sizeof(random[0])) != 0);
    /* The second case of GCM's specification. */
    unsigned char zeros[32] = {0};
    if (!EVP_CipherInit_ex2(context, method, zeros, zeros, 1, NULL)
        || !EVP_CipherUpdate(context, out, &made, zeros, 16) || !EVP_CipherFinal_ex(context, again, &made)
        || !EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, sizeof(tag), tag))
        return 1;
    print("known", 1, out, 16);
    print("known tag", 1, tag, sizeof(tag));
    EVP_CIPHER_CTX_free(context);
    EVP_CIPHER_CTX_free(copy);
    EVP_CIPHER_free(method);
    free(data);
    free(out);
    free(back);
    free(again);
    return 0;
}

static int cts(const char *name, const char *properties, size_t size)
{
    EVP_CIPHER *method = EVP_CIPHER_fetch(NULL, name, properties);
    unsigned char *data = data_of(size), *out = malloc(size + 32), *back = malloc(size + 32), key[32] = "a key", iv[16] = "a vector";
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    const char *variants[] = {"CS1", "CS2", "CS3"};
    if (!method)
        return 1;
    printf("sizes %d %d %d %lu\n", EVP_CIPHER_get_key_length(method), EVP_CIPHER_get_iv_length(method),
           EVP_CIPHER_get_block_size(method), EVP_CIPHER_get_flags(method));
    for (int i = 0; i < 3; i++) {
        OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string("cts_mode", (char *)variants[i], 0), OSSL_PARAM_construct_end()};
        int made = 0, left = 0;
        if (!EVP_CipherInit_ex2(context, method, key, iv, 1, params))
            return 1;
        int done = EVP_CipherUpdate(context, out, &made, data, (int)size) && EVP_CipherFinal_ex(context, out + made, &left);
        printf("%s %d %d ", variants[i], made, left);
        print("encrypted", done && made == (int)size, out, (size_t)made);
        if (!done)
            continue;
        int second = EVP_CipherUpdate(context, back, &left, data, (int)size);
        done = EVP_CipherInit_ex2(context, NULL, key, iv, 0, NULL) && EVP_CipherUpdate(context, back, &made, out, (int)size)
            && EVP_CipherFinal_ex(context, back + made, &left);
        printf("back %d %d %d\n", second, done, made == (int)size && !memcmp(back, data, size));
    }
    EVP_CIPHER_CTX_free(context);
    EVP_CIPHER_free(method);
    free(data);
    free(out);
    free(back);
    return 0;
}

int main(int count, char **arguments)
{
    if (count == 5 && !strcmp(arguments[1], "digest"))
        return digest(arguments[2], arguments[3], strtoul(arguments[4], NULL, 10));
    if (count == 5 && !strcmp(arguments[1], "hmac"))
        return hmac(arguments[2], arguments[3], strtoul(arguments[4], NULL, 10));
    if (count == 5 && !strcmp(arguments[1], "cipher"))
        return cipher(arguments[2], arguments[3], strtoul(arguments[4], NULL, 10));
    if (count == 5 && !strcmp(arguments[1], "gcm"))
        return gcm(arguments[2], arguments[3], strtoul(arguments[4], NULL, 10));
    if (count == 5 && !strcmp(arguments[1], "cts"))
        return cts(arguments[2], arguments[3], strtoul(arguments[4], NULL, 10));
    fprintf(stderr, "symmetric digest|hmac|cipher|gcm|cts NAME PROPERTIES SIZE\n");
    return 2;
}
