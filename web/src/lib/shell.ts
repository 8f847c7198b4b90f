/* Splits a command line into an argument vector as a POSIX shell would, without running one:
 * quotes, backslashes, comments and leading NAME=value are understood; pipes, globs and
 * variables are kept as text and reported, so that the page can say that no shell expands them. */

export type ShellFault = 'single_quote' | 'double_quote' | 'backslash'

export interface ShellSplit {
  argv: string[]
  /** Leading NAME=value words, which a shell would put into the environment. */
  assignments: [string, string][]
  /** What is unfinished at the end of the text, or null. argv holds what could be read. */
  fault: ShellFault | null
  /** Unquoted characters that only a shell would act on, each once, in order of appearance. */
  special: string[]
}

const specials = new Set(['|', '&', ';', '<', '>', '(', ')', '`', '*', '?', '$'])
const assignment = /^([A-Za-z_][A-Za-z0-9_]*)=([\s\S]*)$/

export function splitShell(text: string): ShellSplit {
  const words: { text: string; quotedStart: boolean }[] = []
  const special: string[] = []
  let fault: ShellFault | null = null
  let word: string | null = null
  let quotedStart = false
  const note = (c: string) => {
    if (!special.includes(c)) special.push(c)
  }
  const add = (c: string, quoted: boolean) => {
    if (word === null) {
      word = ''
      quotedStart = quoted
    }
    word += c
  }
  const end = () => {
    if (word !== null) words.push({ text: word, quotedStart })
    word = null
  }

  let i = 0
  while (i < text.length) {
    const c = text.charAt(i)
    if (c === ' ' || c === '\t' || c === '\n' || c === '\r') {
      end()
      i++
    } else if (c === '#' && word === null) {
      while (i < text.length && text.charAt(i) !== '\n') i++
    } else if (c === '\\') {
      if (i + 1 >= text.length) {
        fault = 'backslash'
        i++
      } else if (text.charAt(i + 1) === '\n') {
        i += 2
      } else {
        add(text.charAt(i + 1), true)
        i += 2
      }
    } else if (c === "'") {
      const close = text.indexOf("'", i + 1)
      add(text.slice(i + 1, close < 0 ? text.length : close), true)
      if (close < 0) fault = 'single_quote'
      i = close < 0 ? text.length : close + 1
    } else if (c === '"') {
      add('', true)
      i++
      let closed = false
      while (i < text.length) {
        const d = text.charAt(i)
        if (d === '"') {
          closed = true
          i++
          break
        }
        const next = text.charAt(i + 1)
        if (d === '\\' && next === '\n') {
          i += 2
        } else if (d === '\\' && (next === '"' || next === '\\' || next === '$' || next === '`')) {
          add(next, true)
          i += 2
        } else {
          if (d === '$' || d === '`') note(d)
          add(d, true)
          i++
        }
      }
      if (!closed) fault = 'double_quote'
    } else {
      if (specials.has(c)) note(c)
      add(c, false)
      i++
    }
  }
  end()

  const assignments: [string, string][] = []
  let first = 0
  for (; first < words.length; first++) {
    const w = words[first]
    const match = w && !w.quotedStart ? assignment.exec(w.text) : null
    if (!match) break
    assignments.push([match[1] ?? '', match[2] ?? ''])
  }
  return { argv: words.slice(first).map((w) => w.text), assignments, fault, special }
}

/** One word so that a shell reads it back as it is. */
export function quoteWord(word: string): string {
  if (word !== '' && /^[A-Za-z0-9_@%+=:,./-]+$/.test(word)) return word
  return `'${word.replace(/'/g, `'\\''`)}'`
}

export function quoteShell(argv: readonly string[]): string {
  return argv.map(quoteWord).join(' ')
}
