/* Where each square of the heat map lies and what colour it has. */
import type { Gpu } from '@/api/types'

export type HeatBy = 'utilization' | 'temperature' | 'holder' | 'state'

export interface HeatLayout {
  cell: number
  step: number
  height: number
  /** x and y of each GPU, in the order given. */
  cells: Float32Array
  labels: { text: string; x: number; y: number; width: number }[]
}

/** Squares shrink as the fleet grows; names of nodes go when there is no room for them. */
export function layoutGroups(gpus: readonly Gpu[], width: number): HeatLayout {
  const n = gpus.length
  const cell = n <= 24 ? 38 : n <= 128 ? 24 : n <= 600 ? 15 : n <= 2500 ? 11 : 7
  const gap = cell >= 24 ? 4 : cell >= 11 ? 2 : 1
  const step = cell + gap
  const cells = new Float32Array(n * 2)
  const labels: HeatLayout['labels'] = []
  const groups: { name: string; from: number; count: number }[] = []
  gpus.forEach((gpu, i) => {
    const last = groups[groups.length - 1]
    if (last && last.name === gpu.node_name) last.count++
    else groups.push({ name: gpu.node_name, from: i, count: 1 })
  })
  const named = groups.length <= 80 && cell >= 15
  const labelHeight = named ? 18 : 0
  const groupGap = named ? 18 : cell >= 11 ? 8 : 4
  const perRow = Math.max(1, Math.floor(width / step))
  const columns = cell >= 24 ? 8 : cell >= 11 ? 4 : 4

  let x = 0
  let y = 0
  let rowHeight = 0
  for (const group of groups) {
    const across = Math.min(columns, group.count, perRow)
    const down = Math.ceil(group.count / across)
    const wide = Math.max(across * step - gap, named ? Math.min(96, width) : 0)
    if (x > 0 && x + wide > width) {
      x = 0
      y += rowHeight + groupGap
      rowHeight = 0
    }
    if (named) labels.push({ text: group.name, x, y, width: wide })
    for (let i = 0; i < group.count; i++) {
      cells[(group.from + i) * 2] = x + (i % across) * step
      cells[(group.from + i) * 2 + 1] = y + labelHeight + Math.floor(i / across) * step
    }
    rowHeight = Math.max(rowHeight, labelHeight + down * step - gap)
    x += wide + groupGap
  }
  return { cell, step, height: Math.max(cell, y + rowHeight + 2), cells, labels }
}

function mix(a: readonly number[], b: readonly number[], f: number): string {
  return `rgb(${a.map((v, i) => Math.round(v + ((b[i] ?? v) - v) * f)).join(' ')})`
}
/* One hue, light to dark for utilisation; towards red for heat. The low end is the page's grey. */
const ramps = {
  light: { utilization: [[209, 226, 246], [120, 168, 235], [29, 99, 216]], temperature: [[214, 228, 214], [240, 190, 90], [201, 37, 45]] },
  dark: { utilization: [[30, 48, 76], [54, 104, 178], [120, 174, 255]], temperature: [[36, 52, 44], [176, 126, 44], [255, 122, 114]] },
} as const

export function heatColour(share: number, by: 'utilization' | 'temperature', dark: boolean, idle: string): string {
  const f = Math.max(0, Math.min(1, share))
  if (by === 'utilization' && f < 0.02) return idle
  const [low, middle, high] = ramps[dark ? 'dark' : 'light'][by]
  return f < 0.5 ? mix(low, middle, f * 2) : mix(middle, high, (f - 0.5) * 2)
}

/** The same owner has the same colour everywhere and every day. */
export function holderColour(name: string, dark: boolean): string {
  let hash = 2166136261
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 16777619)
  const hue = (hash >>> 0) % 360
  return dark ? `hsl(${hue} 55% 62%)` : `hsl(${hue} 50% 44%)`
}
