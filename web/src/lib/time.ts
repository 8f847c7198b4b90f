/* Times for people. The server speaks RFC 3339 in UTC; pages show the reader's zone and give the
 * full time in a tooltip. Durations read like a stop watch, so that columns of them line up. */

export function toMs(at: string | null | undefined): number | null {
  if (!at) return null
  const ms = Date.parse(at)
  return Number.isNaN(ms) ? null : ms
}

/** 12s, 4:05, 2:00:00, 3d 04:05:00 */
export function duration(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds) || seconds < 0) return '–'
  const s = Math.floor(seconds)
  if (s < 60) return `${s}s`
  const pad = (n: number) => String(n).padStart(2, '0')
  const hours = Math.floor(s / 3600)
  const minutes = Math.floor((s % 3600) / 60)
  if (hours === 0) return `${minutes}:${pad(s % 60)}`
  if (hours < 24) return `${hours}:${pad(minutes)}:${pad(s % 60)}`
  return `${Math.floor(hours / 24)}d ${pad(hours % 24)}:${pad(minutes)}:${pad(s % 60)}`
}

/** The form that the command line takes: 2h, 1h30m, 45s. */
export function durationFlag(seconds: number): string {
  const parts: string[] = []
  let rest = seconds
  for (const [unit, size] of [['d', 86400], ['h', 3600], ['m', 60], ['s', 1]] as const) {
    const n = Math.floor(rest / size)
    if (n > 0) parts.push(`${n}${unit}`)
    rest -= n * size
  }
  return parts.join('') || '0s'
}

/** Reads 90, 90s, 15m, 2h, 1h30m, 1d, 1:30:00, 12:30 (minutes:seconds). null: cannot be read. */
export function parseDuration(text: string): number | null {
  const t = text.trim().toLowerCase()
  if (t === '') return null
  if (/^\d+$/.test(t)) return Number(t)
  const clock = /^(?:(\d+):)?(\d{1,2}):(\d{2})$/.exec(t)
  if (clock) return Number(clock[1] ?? 0) * 3600 + Number(clock[2]) * 60 + Number(clock[3])
  const units: Record<string, number> = { d: 86400, h: 3600, m: 60, min: 60, s: 1 }
  let total = 0
  let rest = t
  while (rest !== '') {
    const match = /^(\d+(?:\.\d+)?)\s*(d|h|min|m|s)\s*/.exec(rest)
    if (!match) return null
    total += Number(match[1]) * (units[match[2] ?? ''] ?? 0)
    rest = rest.slice(match[0].length)
  }
  return Math.round(total)
}

export type AgoUnit = 'second' | 'minute' | 'hour' | 'day'

/** Age in the largest unit that gives a number of at least one. */
export function age(ms: number): { value: number; unit: AgoUnit } {
  const s = Math.max(0, Math.round(ms / 1000))
  if (s < 60) return { value: s, unit: 'second' }
  if (s < 3600) return { value: Math.floor(s / 60), unit: 'minute' }
  if (s < 86400) return { value: Math.floor(s / 3600), unit: 'hour' }
  return { value: Math.floor(s / 86400), unit: 'day' }
}

const formats = new Map<string, Intl.RelativeTimeFormat>()
export function ago(at: string | null | undefined, nowMs: number, locale: string): string {
  const ms = toMs(at)
  if (ms === null) return '–'
  const { value, unit } = age(nowMs - ms)
  let format = formats.get(locale)
  if (!format) {
    format = new Intl.RelativeTimeFormat(locale, { style: 'narrow', numeric: unit === 'second' ? 'auto' : 'always' })
    formats.set(locale, format)
  }
  return format.format(-value, unit)
}

/** 14:32:07, with the date when it is not today. 24 hours in every language. */
export function clock(at: string | null | undefined, nowMs: number, locale: string): string {
  const ms = toMs(at)
  if (ms === null) return '–'
  const date = new Date(ms)
  const time = date.toLocaleTimeString(locale, { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' })
  if (new Date(nowMs).toDateString() === date.toDateString()) return time
  const sameYear = new Date(nowMs).getFullYear() === date.getFullYear()
  const day = date.toLocaleDateString(locale, { month: 'short', day: 'numeric', year: sameYear ? undefined : 'numeric' })
  return `${day} ${time}`
}

export function fullTime(at: string | null | undefined, locale: string): string {
  const ms = toMs(at)
  if (ms === null) return ''
  const local = new Date(ms).toLocaleString(locale, { dateStyle: 'full', timeStyle: 'long', hourCycle: 'h23' })
  return `${local}\n${at}`
}
