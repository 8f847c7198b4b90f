/* The words of generated passwords. */
#ifndef IDENTITY_WORDS_H
#define IDENTITY_WORDS_H

enum { PASSWORD_WORDS = 1024 };
extern const char *const password_words[PASSWORD_WORDS];

#endif
