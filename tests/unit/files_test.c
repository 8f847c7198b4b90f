/* Trees, ignore patterns, and the store of chunks. */
#include "files/blobs.h"
#include "files/ignore.h"
#include "files/tree.h"
#include "io/crypto.h"

#include "test.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static bool out(const char *rules, const char *path, bool folder)
{
    struct ignore g = {0};
    ignore_add(&g, "", rules, strlen(rules));
    bool is = ignore_has(&g, path, folder);
    ignore_fini(&g);
    return is;
}

TEST(patterns_are_those_of_gitignore)
{
    CHECK(out("*.log\n", "a.log", false) && out("*.log\n", "x/y/a.log", false));
    CHECK(!out("*.log\n", "a.txt", false));
    CHECK(out("/a.log", "a.log", false) && !out("/a.log", "x/a.log", false));
    CHECK(out("build/\n", "build", true) && !out("build/\n", "build", false));
    CHECK(out("build/\n", "x/build", true));
    CHECK(out("x/*.c", "x/a.c", false) && !out("x/*.c", "x/y/a.c", false));
    CHECK(out("**/cache", "a/b/cache", true) && out("**/cache", "cache", true));
    CHECK(out("a/**/b", "a/b", true) && out("a/**/b", "a/x/y/b", true));
    CHECK(out("a/**", "a/x/y", false) && !out("a/**", "b/x", false));
    CHECK(!out("*.log\n!keep.log\n", "keep.log", false));
    CHECK(out("!keep.log\n*.log\n", "keep.log", false));
    CHECK(!out("# *.c\n\n", "a.c", false) && out("\\#x", "#x", false));
    CHECK(out("", ".git", true) && out("", "x/.git", true));
    CHECK(out("a[bc]?\r\n", "abz", false) && !out("a[bc]?", "adz", false));
    struct ignore g = {0};
    ignore_add(&g, "sub", "/x\n", 3);
    CHECK(ignore_has(&g, "sub/x", false) && !ignore_has(&g, "x", false));
    ignore_fini(&g);
}

TEST(a_pattern_of_many_stars_ends)
{
    CHECK(!out("**/**/**/**/**/**/**/**/**/z", "a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/b", false));
}

static int parse(const char *text)
{
    AUTO(arena) struct arena a = {0};
    struct tree t;
    struct err e = {0};
    return tree_parse(text, strlen(text), &a, &t, &e);
}

#define HEAD "drover-tree 1\n"
#define HASH "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

TEST(only_canonical_trees_are_read)
{
    CHECK(parse(HEAD) == OK);
    CHECK(parse(HEAD "d 755 a\nf 644 3 " HASH " a/b\nl ../x a/l\nf 644 0 - x\n") == OK);
    CHECK(parse(HEAD "d 755 a\nf 644 0 - a/b\nf 644 0 - a!\n") ==
          OK); /* what is in it follows it */
    static const char *const bad[] = {
        "",
        "drover-tree 2\n",
        HEAD "x",
        HEAD "\n",
        HEAD "f 644 0 - /a\n",
        HEAD "f 644 0 - ../a\n",
        HEAD "f 644 0 - a/../b\n",
        HEAD "f 644 0 - a//b\n",
        HEAD "f 644 0 - .\n",
        HEAD "f 644 0 - a/b\n",            /* its folder is not listed */
        HEAD "l x a\nf 644 0 - a/b\n",     /* through a link */
        HEAD "f 644 0 - b\nf 644 0 - a\n", /* order */
        HEAD "f 644 0 - a\nf 644 0 - a\n", /* twice */
        HEAD "f 644 0 " HASH " a\n",
        HEAD "f 644 3 - a\n", /* hashes for the size */
        HEAD "f 644 1048577 " HASH " a\n",
        HEAD "f 644 -1 - a\n",
        HEAD "f 1777 0 - a\n",
        HEAD "f 0644 0 - a\n",
        HEAD "f 644 0 - %61\n",
        HEAD "f 644 0 - %00\n",
        HEAD "f 644 0 - %2\n",
        HEAD "f 644 0 -  a\n",
        HEAD "f 644 0 - a",
        HEAD "l /etc a\n",
        HEAD "l .. a\n",
        HEAD "l x/../.. a\n",
        HEAD "l x/../y a\n",
        HEAD "q 1 a\n",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (parse(bad[i]) == OK)
            FAIL_("taken: %s", bad[i]);
}

TEST(a_tree_is_written_sorted_and_escaped_and_reads_back)
{
    AUTO(arena) struct arena a = {0};
    AUTO(buf) struct buf text = {0};
    struct tree_entry x[] = {{.kind = 'f', .mode = 0644, .path = "b c"},
                             {.kind = 'f', .mode = 0600, .path = "a/\xff%"},
                             {.kind = 'd', .mode = 0755, .path = "a"}};
    struct tree t = {.entries = x, .n = 3}, back;
    struct err e = {0};
    CHECK(tree_write(&t, &text, &e) == OK);
    CHECK(strcmp(buf_str(&text), HEAD "d 755 a\nf 600 0 - a/%FF%25\nf 644 0 - b%20c\n") == 0);
    CHECK(tree_parse(text.data, text.len, &a, &back, &e) == OK && back.n == 3);
    CHECK(strcmp(back.entries[1].path, "a/\xff%") == 0);
}

TEST(the_store_keeps_owners_apart_and_finds_damage)
{
    char dir[] = "/tmp/drover-blobs-XXXXXX", cmd[100], id[TREE_ID_SIZE], text[200],
         hex[HASH_HEX_SIZE];
    uint8_t hash[HASH_SIZE];
    struct blobs *b = NULL;
    struct err e = {0};
    AUTO(buf) struct buf got = {0};
    CHECK(mkdtemp(dir) != NULL && blobs_open(dir, 1000, &b, &e) == OK);
    hash_of("hello", 5, hash);
    CHECK(!blob_has(b, 1, hash));
    CHECK(blob_put(b, 1, hash, "hellO", 5, &e) == ERR_INVALID);
    CHECK(blob_put(b, 1, hash, "hello", 5, &e) == OK);
    CHECK(blob_has(b, 1, hash) && !blob_has(b, 2, hash));
    CHECK(blob_read(b, 2, hash, &got, &e) == ERR_NOT_FOUND);
    CHECK(blob_read(b, 1, hash, &got, &e) == OK && got.len == 5);
    snprintf(text, sizeof(text), HEAD "f 644 5 %s a\n", hash_hex(hash, hex));
    CHECK(tree_keep(b, 2, text, strlen(text), id, &e) == ERR_CONFLICT);
    CHECK(tree_keep(b, 1, text, strlen(text), id, &e) == OK);
    CHECK(tree_there(b, 1, id) && !tree_there(b, 2, id) && !tree_there(b, 1, "../../x"));
    blobs_sweep(b, INT64_C(3600) * 1000000);
    CHECK(tree_there(b, 1, id) && blob_has(b, 1, hash));
    CHECK(blobs_bytes(b) == (int64_t)strlen(text) + 5);
    char big[1000];
    memset(big, 'x', sizeof(big));
    uint8_t other[HASH_SIZE];
    hash_of(big, sizeof(big), other);
    CHECK(blob_put(b, 1, other, big, sizeof(big), &e) == ERR_FULL);
    snprintf(cmd, sizeof(cmd), "%s/1/%.2s/%.64s", dir, hex, hex);
    FILE *f = fopen(cmd, "w");
    CHECK(f != NULL && fputs("hxllo", f) >= 0 && fclose(f) == 0);
    CHECK(blob_read(b, 1, hash, &got, &e) == ERR_CORRUPT && !blob_has(b, 1, hash));
    blobs_close(b);
    snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
    CHECK(system(cmd) == 0);
}

TEST_MAIN
