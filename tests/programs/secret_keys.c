/* Secret keys that OpenSSL manages (EVP_SKEY, from 3.5 on), of the provider strongroom.
 *
 *     secret_keys generate TYPE URI SIZE USES     makes a key in the token
 *     secret_keys export TYPE URI                 its bytes, if they leave the token
 *     secret_keys mac NAME WITH TYPE URI SIZE     the code of SIZE bytes, by HMAC with a digest or CMAC with a cipher
 *     secret_keys cipher NAME TYPE URI SIZE       encrypts SIZE bytes, and decrypts them
 *     secret_keys kdf DIGEST TYPE URI             derives 42 bytes by TLS1-PRF (from 4.0 on)
 *
 * TYPE is that of the key management. URI is the key's, or hex: and its bytes, or store: and a URI for the store to find (from 4.0
 * on). Each result is a line: its name, and the bytes in hexadecimal or the last error. With OPENSSL_CONF in the environment. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/store.h>

#define OURS "provider=strongroom"

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

static int print(const char *name, int done, const unsigned char *bytes, size_t size)
{
    printf("%s ", name);
    for (size_t i = 0; done == 1 && i < size; i++)
        printf("%02x", bytes[i]);
    puts(done == 1 ? "" : last_error());
    return done == 1 ? 0 : 1;
}

static unsigned char *data_of(size_t size)
{
    unsigned char *data = malloc(size + 1);
    for (size_t i = 0; data && i < size; i++)
        data[i] = (unsigned char)(i * i + i / 7);
    return data;
}

static EVP_SKEY *key_of(const char *type, const char *uri)
{
    if (strncmp(uri, "hex:", 4) == 0) {
        long length = 0;
        unsigned char *bytes = OPENSSL_hexstr2buf(uri + 4, &length);
        EVP_SKEY *key = EVP_SKEY_import_raw_key(NULL, type, bytes, (size_t)length, OURS);
        OPENSSL_free(bytes);
        return key;
    }
#if OPENSSL_VERSION_MAJOR >= 4
    if (strncmp(uri, "store:", 6) == 0) {
        OSSL_STORE_CTX *store = OSSL_STORE_open(uri + 6, NULL, NULL, NULL, NULL);
        EVP_SKEY *key = NULL;
        while (store && !key && !OSSL_STORE_eof(store)) {
            OSSL_STORE_INFO *info = OSSL_STORE_load(store);
            if (info && OSSL_STORE_INFO_get_type(info) == OSSL_STORE_INFO_SKEY)
                key = OSSL_STORE_INFO_get1_SKEY(info);
            OSSL_STORE_INFO_free(info);
        }
        OSSL_STORE_close(store);
        if (key && !EVP_SKEY_is_a(key, type)) {
            EVP_SKEY_free(key);
            key = NULL;
        }
        return key;
    }
#endif
    OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string("pkcs11_uri", (char *)uri, 0), OSSL_PARAM_construct_end()};
    return EVP_SKEY_import(NULL, type, OURS, OSSL_SKEYMGMT_SELECT_ALL, params);
}

static int generate(const char *type, const char *uri, size_t size, const char *uses)
{
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string("pkcs11_uri", (char *)uri, 0),
        OSSL_PARAM_construct_size_t("key-length", &size),
        OSSL_PARAM_construct_utf8_string("pkcs11_key_usage", (char *)uses, 0),
        OSSL_PARAM_construct_end(),
    };
    EVP_SKEY *key = EVP_SKEY_generate(NULL, type, OURS, params);
    printf("generated %s\n", key ? EVP_SKEY_get0_key_id(key) : last_error());
    EVP_SKEY_free(key);
    return key == NULL;
}

static int export(EVP_SKEY *key)
{
    const unsigned char *bytes = NULL;
    size_t size = 0;
    int done = EVP_SKEY_get0_raw_key(key, &bytes, &size);
    return print("exported", done, bytes, size);
}

static int mac(const char *name, const char *with, EVP_SKEY *key, size_t size)
{
    EVP_MAC *method = EVP_MAC_fetch(NULL, name, OURS);
    EVP_MAC_CTX *context = EVP_MAC_CTX_new(method);
    unsigned char *data = data_of(size), code[64];
    size_t length = 0;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(strcmp(name, "HMAC") == 0 ? "digest" : "cipher", (char *)with, 0),
        OSSL_PARAM_construct_end(),
    };
    int done = data && context && EVP_MAC_init_SKEY(context, key, params) == 1
        && EVP_MAC_update(context, data, size / 2) == 1
        && EVP_MAC_update(context, data + size / 2, size - size / 2) == 1
        && EVP_MAC_final(context, code, &length, sizeof(code)) == 1;
    return print("code", done, code, length);
}

/* The tag of the ciphers that have one. */
static unsigned char tag[16];

static int crypt(const char *name, EVP_SKEY *key, int encrypt, const unsigned char *in, size_t size, unsigned char *out, size_t *made)
{
    static const unsigned char iv[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, name, OURS);
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    int is_gcm = strstr(name, "GCM") != NULL, first = 0, second = 0, last = 0;
    size_t length = cipher ? (size_t)EVP_CIPHER_get_iv_length(cipher) : 0;
    int done = cipher && context && EVP_CipherInit_SKEY(context, cipher, key, length ? iv : NULL, length, encrypt, NULL) == 1
        && (!is_gcm || encrypt || EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, sizeof(tag), tag) == 1)
        && EVP_CipherUpdate(context, out, &first, in, (int)(size / 3)) == 1
        && EVP_CipherUpdate(context, out + first, &second, in + size / 3, (int)(size - size / 3)) == 1
        && EVP_CipherFinal_ex(context, out + first + second, &last) == 1
        && (!is_gcm || !encrypt || EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, sizeof(tag), tag) == 1);
    *made = (size_t)(first + second + last);
    EVP_CIPHER_CTX_free(context);
    EVP_CIPHER_free(cipher);
    return done;
}

static int cipher(const char *name, EVP_SKEY *key, size_t size)
{
    unsigned char *data = data_of(size), *encrypted = malloc(size + 32), *decrypted = malloc(size + 32);
    size_t made = 0, again = 0;
    if (!data || !encrypted || !decrypted)
        return 1;
    int done = crypt(name, key, 1, data, size, encrypted, &made);
    if (print("encrypted", done, encrypted, made) != 0)
        return 1;
    done = crypt(name, key, 0, encrypted, made, decrypted, &again);
    return print("decrypted", done && again == size && memcmp(data, decrypted, size) == 0, NULL, 0);
}

#if OPENSSL_VERSION_MAJOR >= 4
static int kdf(const char *digest, EVP_SKEY *key)
{
    EVP_KDF *method = EVP_KDF_fetch(NULL, "TLS1-PRF", OURS);
    EVP_KDF_CTX *context = EVP_KDF_CTX_new(method);
    unsigned char derived[42];
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string("digest", (char *)digest, 0),
        OSSL_PARAM_construct_octet_string("seed", "label and seed", 14),
        OSSL_PARAM_construct_end(),
    };
    int done = context && EVP_KDF_CTX_set_SKEY(context, key, "secret") == 1
        && EVP_KDF_derive(context, derived, sizeof(derived), params) == 1;
    return print("derived", done, derived, sizeof(derived));
}
#endif

int main(int argc, char **argv)
{
    if (argc == 6 && strcmp(argv[1], "generate") == 0)
        return generate(argv[2], argv[3], (size_t)atol(argv[4]), argv[5]);
    int at = argc == 4 ? 2 : argc == 7 ? 4 : 3;
    if (argc < 4 || argc > 7)
        return 2;
    EVP_SKEY *key = key_of(argv[at], argv[at + 1]);
    if (key == NULL) {
        printf("key %s\n", last_error());
        return 1;
    }
    int status = 2;
    if (argc == 4 && strcmp(argv[1], "export") == 0)
        status = export(key);
    if (argc == 7 && strcmp(argv[1], "mac") == 0)
        status = mac(argv[2], argv[3], key, (size_t)atol(argv[6]));
    if (argc == 6 && strcmp(argv[1], "cipher") == 0)
        status = cipher(argv[2], key, (size_t)atol(argv[5]));
#if OPENSSL_VERSION_MAJOR >= 4
    if (argc == 5 && strcmp(argv[1], "kdf") == 0)
        status = kdf(argv[2], key);
#endif
    EVP_SKEY_free(key);
    return status;
}
