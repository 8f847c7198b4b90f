import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { gpuStates, jobStates, type Gpu } from '@/api/types'
import { cellCount } from '@/lib/cells'
import { heatColour, holderColour, layoutGroups } from '@/lib/heat'
import { stateColour, stateIcon } from '@/lib/states'
import en from '@/locales/en'
import zh from '@/locales/zh'

function keys(node: object, prefix = ''): string[] {
  return Object.entries(node).flatMap(([k, v]) => (typeof v === 'string' ? [prefix + k] : keys(v as object, `${prefix}${k}.`)))
}
function sources(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((e) =>
    e.isDirectory() ? sources(join(folder, e.name)) : /\.(vue|ts)$/.test(e.name) ? [readFileSync(join(folder, e.name), 'utf8')] : [],
  )
}

describe('texts', () => {
  it('exist in both languages, with the same places', () => {
    expect(keys(zh)).toEqual(keys(en))
    const places = (text: string) => [...new Set(text.match(/\{\w+\}/g) ?? [])].sort()
    const at = (node: unknown, key: string) => key.split('.').reduce<unknown>((n, k) => (n as Record<string, unknown>)[k], node) as string
    for (const key of keys(en)) {
      const missing = places(at(zh, key)).filter((p) => !places(at(en, key)).includes(p) && p !== '{n}')
      expect(missing, key).toEqual([])
    }
  })
  it('are all there that the pages ask for, and none is left over', () => {
    const known = new Set(keys(en))
    const code = sources('src/').filter((s) => !s.includes('const zh: Messages') && !s.includes("cancel: 'Cancel',")).join('\n')
    const text = /'([a-zA-Z]+\.[a-zA-Z0-9.]+)'/g
    const asked = [...code.matchAll(/\bt\(([^()]*)/g)].flatMap((m) => [...(m[1] as string).matchAll(text)].map((k) => k[1] as string))
    expect(asked.length).toBeGreaterThan(150)
    expect(asked.filter((k) => !known.has(k))).toEqual([])
    const mentioned = new Set([...code.matchAll(text)].map((m) => m[1] as string))
    const open = [...code.matchAll(/`([a-zA-Z.]+\.)\$\{/g)].map((m) => m[1] as string)
    // StateBadge chooses between two groups inside one template.
    open.push('state.', 'gpuState.')
    expect([...known].filter((k) => !mentioned.has(k) && !open.some((o) => k.startsWith(o)))).toEqual([])
  })
  it('name every state', () => {
    for (const s of jobStates) expect(en.state[s]).toBeTruthy()
    for (const s of gpuStates) expect(en.gpuState[s]).toBeTruthy()
  })
})

describe('states', () => {
  it('have a colour and an icon each', () => {
    for (const s of [...jobStates, ...gpuStates]) {
      expect(stateIcon(s)).not.toBe('dot')
      expect(stateColour(s)).toBeTruthy()
    }
    expect(new Set(['failed', 'timeout', 'error'].map(stateColour))).toEqual(new Set(['red']))
    expect(stateColour('running')).toBe(stateColour('starting'))
  })
})

describe('the heat map', () => {
  const fleet = (n: number, perNode: number) =>
    Array.from({ length: n }, (_, i) => ({ node_name: `n${Math.floor(i / perNode)}`, index: i % perNode }) as Gpu)
  it('places every GPU inside, none on another', () => {
    for (const [n, perNode, width] of [[8, 4, 1100], [10000, 8, 1100], [64, 8, 340], [3, 3, 100]] as const) {
      const layout = layoutGroups(fleet(n, perNode), width)
      const taken = new Set<string>()
      for (let i = 0; i < n; i++) {
        const x = layout.cells[i * 2] as number
        const y = layout.cells[i * 2 + 1] as number
        expect(x + layout.cell).toBeLessThanOrEqual(width)
        expect(y + layout.cell).toBeLessThanOrEqual(layout.height)
        taken.add(`${x}/${y}`)
      }
      expect(taken.size).toBe(n)
    }
  })
  it('gives an owner the same colour every time, and idle the grey', () => {
    expect(holderColour('li.na', false)).toBe(holderColour('li.na', false))
    expect(holderColour('li.na', false)).not.toBe(holderColour('chen', false))
    expect(heatColour(0, 'utilization', false, 'grey')).toBe('grey')
    expect(heatColour(1, 'utilization', false, 'grey')).toBe('rgb(29 99 216)')
  })
})

describe('cellCount', () => {
  it('counts East Asian characters as two and tabs to their stops', () => {
    expect(cellCount('abc')).toBe(3)
    expect(cellCount('内存')).toBe(4)
    expect(cellCount('a\tb')).toBe(5)
    expect(cellCount('🚀')).toBe(2)
  })
})
