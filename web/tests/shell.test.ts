import { describe, expect, it } from 'vitest'
import { quoteShell, splitShell } from '@/lib/shell'

const words = (text: string) => splitShell(text).argv

describe('splitShell', () => {
  it('splits at white space, also over lines', () => {
    expect(words('python3  train.py\t--epochs 3\n')).toEqual(['python3', 'train.py', '--epochs', '3'])
    expect(words('a \\\n  b')).toEqual(['a', 'b'])
    expect(words('')).toEqual([])
  })
  it('understands quotes as a shell does', () => {
    expect(words(`sh -c 'echo "$HOME"; exit 3'`)).toEqual(['sh', '-c', 'echo "$HOME"; exit 3'])
    expect(words('echo "a b"\'c d\'e')).toEqual(['echo', 'a bc de'])
    expect(words('echo "" \'\'')).toEqual(['echo', '', ''])
    expect(words('echo "a\\"b\\n\\\\"')).toEqual(['echo', 'a"b\\n\\'])
    expect(words("echo 'a\\'")).toEqual(['echo', 'a\\'])
    expect(words('echo a\\ b')).toEqual(['echo', 'a b'])
  })
  it('names what is unfinished', () => {
    expect(splitShell("echo 'a").fault).toBe('single_quote')
    expect(splitShell('echo "a').fault).toBe('double_quote')
    expect(splitShell('echo a\\').fault).toBe('backslash')
    expect(splitShell('echo "a\\\\"').fault).toBeNull()
  })
  it('keeps comments out, but only where a word begins', () => {
    expect(words('echo a # b\necho#c')).toEqual(['echo', 'a', 'echo#c'])
  })
  it('puts leading assignments into the environment', () => {
    const split = splitShell(`CUDA_VISIBLE_DEVICES=0 NAME="a b" python3 x=1`)
    expect(split.assignments).toEqual([['CUDA_VISIBLE_DEVICES', '0'], ['NAME', 'a b']])
    expect(split.argv).toEqual(['python3', 'x=1'])
    expect(words(`'A=1' b`)).toEqual(['A=1', 'b'])
  })
  it('reports what only a shell would act on, unless quoted', () => {
    expect(splitShell('cat *.txt | wc -l > out').special).toEqual(['*', '|', '>'])
    expect(splitShell(`sh -c 'a | b > c'`).special).toEqual([])
    expect(splitShell('echo "$HOME" \\$x').special).toEqual(['$'])
  })
  it('reads back what quoteShell writes', () => {
    for (const argv of [['a', 'b c'], ["it's", '"x"', '', '$HOME', 'a\nb', '内存', '\\', '*', '#x', '~', 'A=1 b']]) {
      expect(splitShell(quoteShell(argv)).argv).toEqual(argv)
    }
  })
})
