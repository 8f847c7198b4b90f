/* Clock, randomness, and the texts made of them. */
#include "base/world.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

static int64_t real_now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * US_PER_S + t.tv_nsec / 1000;
}

static int64_t real_mono_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * US_PER_S + t.tv_nsec / 1000;
}

static void real_random(void *to, size_t n)
{
    char *at = to;
    while (n > 0) {
        ssize_t got = getrandom(at, n, 0);
        if (got < 0) {
            if (errno == EINTR)
                continue;
            abort(); /* no kernel randomness: no key may be made */
        }
        at += got;
        n -= (size_t)got;
    }
}

static const struct world real_world = {real_now_us, real_mono_us, real_random};
static const struct world *world = &real_world;

void world_set(const struct world *w)
{
    world = w != NULL ? w : &real_world;
}

int64_t now_us(void)
{
    return world->now_us();
}

int64_t mono_us(void)
{
    return world->mono_us();
}

void random_bytes(void *to, size_t n)
{
    world->random(to, n);
}

uint64_t random_below(uint64_t n)
{
    uint64_t limit = n * (UINT64_MAX / n), got;
    do
        random_bytes(&got, sizeof(got));
    while (got >= limit);
    return got % n;
}

const char *time_format(int64_t us, char to[TIME_TEXT_SIZE])
{
    time_t s = (time_t)(us / US_PER_S);
    long rest = (long)(us % US_PER_S);
    if (rest < 0) {
        rest += US_PER_S;
        s--;
    }
    struct tm tm;
    gmtime_r(&s, &tm);
    int year = (tm.tm_year + 1900) % 10000;
    snprintf(to, TIME_TEXT_SIZE, "%04u-%02u-%02uT%02u:%02u:%02u.%06luZ", (unsigned)year % 10000u,
             (unsigned)(tm.tm_mon + 1) % 100u, (unsigned)tm.tm_mday % 100u,
             (unsigned)tm.tm_hour % 100u, (unsigned)tm.tm_min % 100u, (unsigned)tm.tm_sec % 100u,
             (unsigned long)rest % 1000000ul);
    return to;
}

/* Reads exactly n decimal digits; -1: something else stands there. */
static int digits(const char **s, int n)
{
    int value = 0;
    for (int i = 0; i < n; i++, (*s)++) {
        if (**s < '0' || **s > '9')
            return -1;
        value = value * 10 + (**s - '0');
    }
    return value;
}

static int days_in_month(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return month == 2 && leap ? 29 : days[month - 1];
}

bool time_parse(const char *s, int64_t *us)
{
    struct tm tm = {0};
    int year = digits(&s, 4);
    if (year < 1 || *s++ != '-')
        return false;
    int month = digits(&s, 2);
    if (month < 1 || month > 12 || *s++ != '-')
        return false;
    int day = digits(&s, 2);
    if (day < 1 || day > days_in_month(year, month))
        return false;
    int hour = 0, minute = 0, second = 0, offset_min = 0;
    int64_t micro = 0;
    if (*s != '\0') {
        if (*s != 'T' && *s != 't' && *s != ' ')
            return false;
        s++;
        hour = digits(&s, 2);
        if (hour < 0 || hour > 23 || *s++ != ':')
            return false;
        minute = digits(&s, 2);
        if (minute < 0 || minute > 59)
            return false;
        if (*s == ':') {
            s++;
            second = digits(&s, 2);
            if (second < 0 || second > 60)
                return false;
            if (*s == '.' || *s == ',') {
                s++;
                int64_t unit = 100000;
                if (*s < '0' || *s > '9')
                    return false;
                for (; *s >= '0' && *s <= '9'; s++, unit /= 10)
                    micro += (*s - '0') * unit;
            }
        }
        if (*s == 'Z' || *s == 'z') {
            s++;
        } else if (*s == '+' || *s == '-') {
            int sign = *s++ == '-' ? -1 : 1;
            int h = digits(&s, 2);
            if (h < 0 || h > 23)
                return false;
            if (*s == ':')
                s++;
            int m = digits(&s, 2);
            if (m < 0 || m > 59)
                return false;
            offset_min = sign * (h * 60 + m);
        }
    }
    if (*s != '\0')
        return false;
    tm.tm_year = year - 1900;
    tm.tm_mon = month - 1;
    tm.tm_mday = day;
    tm.tm_hour = hour;
    tm.tm_min = minute;
    tm.tm_sec = second;
    *us = ((int64_t)timegm(&tm) - offset_min * 60) * US_PER_S + micro;
    return true;
}

static const char *uuid_text(const unsigned char b[16], char to[UUID_TEXT_SIZE])
{
    static const char hex[] = "0123456789abcdef";
    char *at = to;
    for (int i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *at++ = '-';
        *at++ = hex[b[i] >> 4];
        *at++ = hex[b[i] & 15];
    }
    *at = '\0';
    return to;
}

const char *uuid_v4(char to[UUID_TEXT_SIZE])
{
    unsigned char b[16];
    random_bytes(b, sizeof(b));
    b[6] = (unsigned char)((b[6] & 0x0f) | 0x40);
    b[8] = (unsigned char)((b[8] & 0x3f) | 0x80);
    return uuid_text(b, to);
}

const char *uuid_v7(char to[UUID_TEXT_SIZE])
{
    unsigned char b[16];
    random_bytes(b, sizeof(b));
    uint64_t ms = (uint64_t)(now_us() / US_PER_MS);
    for (int i = 0; i < 6; i++)
        b[i] = (unsigned char)(ms >> (40 - 8 * i));
    b[6] = (unsigned char)((b[6] & 0x0f) | 0x70);
    b[8] = (unsigned char)((b[8] & 0x3f) | 0x80);
    return uuid_text(b, to);
}

bool uuid_is(const char *s)
{
    for (int i = 0; i < 36; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        char c = s[i];
        bool hex = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
        if (dash ? c != '-' : !hex)
            return false;
    }
    return s[36] == '\0';
}
