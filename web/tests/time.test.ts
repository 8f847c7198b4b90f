import { describe, expect, it } from 'vitest'
import { ago, clock, duration, durationFlag, parseDuration } from '@/lib/time'

describe('duration', () => {
  it('reads like a stop watch', () => {
    expect([0, 12.9, 59, 60, 245, 3600, 7325, 86400 * 3 + 4 * 3600 + 5 * 60].map(duration)).toEqual(
      ['0s', '12s', '59s', '1:00', '4:05', '1:00:00', '2:02:05', '3d 04:05:00'])
    expect(duration(null)).toBe('–')
    expect(duration(-3)).toBe('–')
  })
})

describe('parseDuration', () => {
  it('takes what people write', () => {
    expect(['90', '90s', '15m', '15 min', '2h', '1h30m', '1.5h', '1d', '1:30:00', '12:30', ' 2H '].map(parseDuration)).toEqual(
      [90, 90, 900, 900, 7200, 5400, 5400, 86400, 5400, 750, 7200])
  })
  it('refuses what it cannot read', () => {
    for (const text of ['', 'soon', '1x', '1:2:3', '-5', '2h!', ':30']) expect(parseDuration(text)).toBeNull()
  })
  it('is undone by durationFlag', () => {
    for (const s of [1, 59, 60, 5400, 86400, 90061]) expect(parseDuration(durationFlag(s))).toBe(s)
    expect(durationFlag(5400)).toBe('1h30m')
  })
})

describe('ages and clock times', () => {
  const now = Date.parse('2026-11-23T12:00:00Z')
  it('uses the largest unit', () => {
    expect(ago('2026-11-23T11:59:18.000000Z', now, 'en')).toMatch(/42/)
    expect(ago('2026-11-23T09:00:00.000000Z', now, 'en')).toMatch(/3/)
    expect(ago('2026-11-23T11:55:00.000000Z', now, 'zh-CN')).toMatch(/5\s?分钟前/)
    expect(ago(null, now, 'en')).toBe('–')
  })
  it('says the day only when it is another one', () => {
    const at = '2026-11-23T11:00:07.000000Z'
    expect(clock(at, now, 'en')).toMatch(/^\d\d:\d\d:07$/)
    expect(clock('2026-11-20T11:00:07.000000Z', now, 'en')).toMatch(/Nov/)
    expect(clock('2025-11-20T11:00:07.000000Z', now, 'en')).toMatch(/2025/)
  })
})
