/* Signatures over messages as OpenSSL has them from 3.4 on: at once, in parts, and verified against a signature that is set.
 *
 *     messages URI PUBLIC ALGORITHM      signs with the key of the URI, by the algorithm of the provider strongroom; verifies with it, and
 *                                        with the public key in the file PUBLIC by OpenSSL's own
 *
 * Each check is a line: its name and what came of it. With OPENSSL_CONF in the environment. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/store.h>

#define SIZE 5000
#define PIECE 777

static unsigned char message[SIZE];

static EVP_PKEY *key_of(const char *uri)
{
    OSSL_STORE_CTX *store = OSSL_STORE_open(uri, NULL, NULL, NULL, NULL);
    EVP_PKEY *key = NULL;
    while (store && !key && !OSSL_STORE_eof(store)) {
        OSSL_STORE_INFO *info = OSSL_STORE_load(store);
        if (info)
            key = OSSL_STORE_INFO_get1_PKEY(info);
        OSSL_STORE_INFO_free(info);
    }
    OSSL_STORE_close(store);
    return key;
}

static EVP_PKEY *public_of(const char *file)
{
    BIO *bio = BIO_new_file(file, "r");
    EVP_PKEY *key = bio ? PEM_read_bio_PUBKEY_ex(bio, NULL, NULL, NULL, NULL, "provider=default") : NULL;
    BIO_free(bio);
    return key;
}

static void print(const char *what, int done)
{
    printf("%s %s\n", what, done == 1 ? "done" : "refused");
    if (done != 1)
        ERR_print_errors_fp(stderr);
    ERR_clear_error();
}

/* The signature in a buffer of its size; NULL if it is not made. */
static unsigned char *sign(EVP_PKEY *key, EVP_SIGNATURE *algorithm, int in_parts, size_t *size)
{
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(NULL, key, "provider=strongroom");
    unsigned char *signature = NULL;
    int done = EVP_PKEY_sign_message_init(context, algorithm, NULL) == 1;
    for (size_t at = 0; done && in_parts && at < SIZE; at += PIECE)
        done = EVP_PKEY_sign_message_update(context, message + at, SIZE - at < PIECE ? SIZE - at : PIECE) == 1;
    if (done && in_parts)
        done = EVP_PKEY_sign_message_final(context, NULL, size) == 1 && (signature = malloc(*size)) != NULL
            && EVP_PKEY_sign_message_final(context, signature, size) == 1;
    else if (done)
        done = EVP_PKEY_sign(context, NULL, size, message, SIZE) == 1 && (signature = malloc(*size)) != NULL
            && EVP_PKEY_sign(context, signature, size, message, SIZE) == 1;
    print(in_parts ? "sign in parts" : "sign", done);
    EVP_PKEY_CTX_free(context);
    if (done)
        return signature;
    free(signature);
    return NULL;
}

static int verify(EVP_PKEY *key, EVP_SIGNATURE *algorithm, const char *properties, const unsigned char *signature, size_t size)
{
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(NULL, key, properties);
    int done = EVP_PKEY_verify_message_init(context, algorithm, NULL) == 1
        && EVP_PKEY_verify(context, signature, size, message, SIZE) == 1;
    EVP_PKEY_CTX_free(context);
    return done;
}

static int verify_in_parts(EVP_PKEY *key, EVP_SIGNATURE *algorithm, const unsigned char *signature, size_t size)
{
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(NULL, key, "provider=strongroom"), *copy = NULL;
    int done = EVP_PKEY_verify_message_init(context, algorithm, NULL) == 1
        && (signature == NULL || EVP_PKEY_CTX_set_signature(context, signature, size) == 1)
        && EVP_PKEY_verify_message_update(context, message, PIECE) == 1
        /* What is copied in the middle goes on by itself. */
        && (copy = EVP_PKEY_CTX_dup(context)) != NULL
        && EVP_PKEY_verify_message_update(copy, message + PIECE, SIZE - PIECE) == 1
        && EVP_PKEY_verify_message_final(copy) == 1
        && EVP_PKEY_verify_message_update(context, message + PIECE, SIZE - PIECE) == 1
        && EVP_PKEY_verify_message_final(context) == 1;
    EVP_PKEY_CTX_free(context);
    EVP_PKEY_CTX_free(copy);
    return done;
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    for (size_t at = 0; at < SIZE; at++)
        message[at] = (unsigned char)(at * at + at / 7);
    EVP_PKEY *key = key_of(argv[1]), *public = public_of(argv[2]);
    EVP_SIGNATURE *ours = EVP_SIGNATURE_fetch(NULL, argv[3], "provider=strongroom");
    EVP_SIGNATURE *theirs = EVP_SIGNATURE_fetch(NULL, argv[3], "provider=default");
    if (!key || !public || !ours || !theirs) {
        ERR_print_errors_fp(stderr);
        return 1;
    }
    for (int in_parts = 0; in_parts < 2; in_parts++) {
        size_t size = 0;
        unsigned char *signature = sign(key, ours, in_parts, &size);
        if (!signature)
            continue;
        print("openssl verifies", verify(public, theirs, "provider=default", signature, size));
        print("verify", verify(key, ours, "provider=strongroom", signature, size));
        print("verify in parts", verify_in_parts(key, ours, signature, size));
        print("verify in parts without a signature", verify_in_parts(key, ours, NULL, 0));
        signature[size / 2] ^= 1;
        print("verify a changed one", verify(key, ours, "provider=strongroom", signature, size));
        print("verify a changed one in parts", verify_in_parts(key, ours, signature, size));
        free(signature);
    }
    EVP_SIGNATURE_free(ours);
    EVP_SIGNATURE_free(theirs);

    /* The other way round: of a key for another algorithm, and with another hash than that of the algorithm's name. */
    const char *another = EVP_PKEY_is_a(key, "RSA") ? "ECDSA-SHA256" : "RSA-SHA256";
    EVP_SIGNATURE *algorithm = EVP_SIGNATURE_fetch(NULL, another, "provider=strongroom");
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(NULL, key, "provider=strongroom");
    print("another type of key", EVP_PKEY_sign_message_init(context, algorithm, NULL));
    EVP_SIGNATURE_free(algorithm);
    if (EVP_PKEY_is_a(key, "RSA") || EVP_PKEY_is_a(key, "EC")) {
        char *hash = strstr(argv[3], "SHA3-384") ? "SHA256" : "SHA3-384";
        OSSL_PARAM digest[] = {OSSL_PARAM_construct_utf8_string("digest", hash, 0), OSSL_PARAM_construct_end()};
        algorithm = EVP_SIGNATURE_fetch(NULL, argv[3], "provider=strongroom");
        print("another hash", EVP_PKEY_sign_message_init(context, algorithm, digest));
        EVP_SIGNATURE_free(algorithm);
    }
    EVP_PKEY_CTX_free(context);
    EVP_PKEY_free(public);
    EVP_PKEY_free(key);
    return 0;
}
