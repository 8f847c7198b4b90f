import { describe, expect, it } from 'vitest'
import { tokenOf } from '@/lib/link'

describe('the token of a link', () => {
  it('is what stands behind the #', () => {
    expect(tokenOf('#token=drl_aB3')).toBe('drl_aB3')
    expect(tokenOf('#from=mail&token=drl_aB3')).toBe('drl_aB3')
    expect(tokenOf('#token=drl_aB3%20')).toBe('drl_aB3')
  })
  it('is empty when the address was cut', () => {
    for (const hash of ['', '#', '#token', '#token=', '#drl_aB3']) expect(tokenOf(hash)).toBe('')
  })
})
