/* Keys and the palette draw from one list of actions: whoever is on the page adds its own, so the
 * help sheet and the palette are always true. Keys do nothing while someone types. */
import { onScopeDispose, shallowReactive } from 'vue'

export interface Action {
  id: string
  /** 'x', 'g j' (one after the other), 'mod+k', 'shift+?' is written '?'. Empty: palette only. */
  key: string
  label: () => string
  group: 'go' | 'page' | 'app'
  icon?: string
  enabled?: () => boolean
  run: () => void
  /** Works inside inputs too (only for keys with mod). */
  always?: boolean
  /** Not offered in the palette. */
  hidden?: boolean
  /** A second key for another action: works, but is not listed. */
  twin?: boolean
}

const actions = shallowReactive(new Set<Action>())

export function useActions(list: Action[]): void {
  for (const a of list) actions.add(a)
  onScopeDispose(() => {
    for (const a of list) actions.delete(a)
  })
}

export function allActions(): Action[] {
  return [...actions]
}

export function typing(target: EventTarget | null): boolean {
  return (
    target instanceof HTMLElement &&
    (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName))
  )
}

let pending = ''
let pendingTimer: ReturnType<typeof setTimeout> | undefined

function pressed(event: KeyboardEvent): void {
  if (event.isComposing || event.altKey || event.defaultPrevented) return
  const mod = event.ctrlKey || event.metaKey
  const inModal = document.querySelector('[aria-modal="true"]:not([style*="display: none"])') !== null
  const name = event.key === ' ' ? 'space' : event.key.length === 1 ? event.key : event.key.toLowerCase()
  const key = mod ? `mod+${name.toLowerCase()}` : name
  const busy = typing(event.target) || inModal
  const candidates = (wanted: string) =>
    [...actions].reverse().filter((a) => a.key === wanted && (a.enabled?.() ?? true) && (!busy || (a.always && mod)))

  const sequence = pending === '' ? key : `${pending} ${key}`
  pending = ''
  clearTimeout(pendingTimer)
  const action = candidates(sequence)[0] ?? candidates(key)[0]
  if (action) {
    event.preventDefault()
    action.run()
    return
  }
  if (!busy && !mod && [...actions].some((a) => a.key.startsWith(`${key} `))) {
    pending = key
    pendingTimer = setTimeout(() => (pending = ''), 900)
  }
}

export function listenForKeys(): void {
  window.addEventListener('keydown', pressed)
}

const apple = /Mac|iP(hone|ad)/.test(navigator.platform)
/** For people: "Ctrl K" or "⌘ K". */
export function keyNames(key: string): string[] {
  return key
    .split(/[ +]/)
    .map((k) => (k === 'mod' ? (apple ? '⌘' : 'Ctrl') : k === 'enter' ? '↵' : k === 'escape' ? 'Esc' : key.includes('mod+') ? k.toUpperCase() : k))
}
