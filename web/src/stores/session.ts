/* Who is signed in. The access token lives in memory only. The refresh token is kept for the next
 * visit (or, without "keep me signed in", for this tab); it is used once, so tabs take turns and
 * adopt what another tab has renewed: using a dead one would end the session everywhere. */
import { defineStore } from 'pinia'
import { computed, ref } from 'vue'
import { ApiError, call, callRaw, randomKey } from '@/api/client'
import type { Session, SessionInfo, User } from '@/api/types'

const storageKey = 'drover.refresh'
const turnKey = 'drover.refresh-turn'

function storages(): Storage[] {
  const found: Storage[] = []
  for (const name of ['localStorage', 'sessionStorage'] as const) {
    try {
      found.push(window[name])
    } catch {
      // Storage may be refused; the session then lasts as long as the page.
    }
  }
  return found
}

let memoryToken: string | null = null
function storedToken(): string | null {
  for (const s of storages()) {
    const token = s.getItem(storageKey)
    if (token) return token
  }
  return memoryToken
}
function storeToken(token: string | null, keep?: boolean): void {
  memoryToken = token
  const all = storages()
  const before = all.find((s) => s.getItem(storageKey) !== null)
  for (const s of all) s.removeItem(storageKey)
  const target = keep === undefined ? (before ?? all[0]) : keep ? all[0] : all[1]
  if (token) target?.setItem(storageKey, token)
}

/** One tab at a time. Locks exist on secure origins only; elsewhere a short note in storage does. */
async function inTurn<T>(work: () => Promise<T>): Promise<T> {
  if (navigator.locks) return navigator.locks.request(turnKey, work) as Promise<T>
  const store = storages()[0]
  const mine = randomKey()
  for (let i = 0; store && i < 50; i++) {
    const [owner, until] = (store.getItem(turnKey) ?? '').split(' ')
    if (owner === mine) break
    if (!owner || Number(until) < Date.now()) store.setItem(turnKey, `${mine} ${Date.now() + 5000}`)
    await new Promise((done) => setTimeout(done, 40 + Math.random() * 60))
  }
  try {
    return await work()
  } finally {
    if (store?.getItem(turnKey)?.startsWith(mine)) store.removeItem(turnKey)
  }
}

export const useSession = defineStore('session', () => {
  const user = ref<User | null>(null)
  const role = ref('')
  const state = ref<'unknown' | 'in' | 'out'>('unknown')
  let access: string | null = null
  let renewing: Promise<boolean> | null = null

  const isAdmin = computed(() => role.value === 'admin' || role.value === 'administrator')
  const name = computed(() => {
    const u = user.value
    if (!u) return ''
    return [u.first_name, u.last_name].filter(Boolean).join(' ') || u.nickname || u.email
  })

  function take(session: Session, keep?: boolean): void {
    access = session.access_token
    storeToken(session.refresh_token, keep)
    user.value = session.user
    role.value = session.user.role
    state.value = 'in'
  }

  async function signIn(email: string, password: string, keep: boolean): Promise<void> {
    take(await call<Session>('POST', '/v1/session', { body: { email, password }, anonymous: true }), keep)
  }

  function forget(): void {
    access = null
    storeToken(null)
    user.value = null
    role.value = ''
    state.value = 'out'
  }

  async function renewOnce(): Promise<boolean> {
    const before = storedToken()
    if (!before) return false
    return inTurn(async () => {
      for (let attempt = 0; attempt < 2; attempt++) {
        const token = storedToken()
        if (!token) return false
        try {
          const session = await call<Session>('POST', '/v1/session/refresh', {
            body: { refresh_token: token },
            anonymous: true,
          })
          take(session)
          return true
        } catch (error) {
          if (!(error instanceof ApiError) || error.status === 0 || error.status >= 500 || error.status === 429) throw error
          // Refused: dead, unless another tab has just put a newer one there.
          if (storedToken() === token) return false
        }
      }
      return false
    })
  }

  /** Many calls may fail with 401 at once; they share one renewal. */
  function renew(): Promise<boolean> {
    renewing ??= renewOnce().finally(() => {
      renewing = null
    })
    return renewing
  }

  /** At start: from the kept token. A server that trusts this address still wants to know who uses
   * its native API: without a user it is a sign-in that is asked for. */
  async function restore(): Promise<void> {
    if (state.value !== 'unknown') return
    if (storedToken()) {
      if (await renew()) return
      storeToken(null)
    }
    try {
      const answer = await callRaw('GET', '/v1/session', { anonymous: true })
      const info = (await answer.json()) as SessionInfo
      user.value = info.user
      role.value = info.role
      state.value = info.user ? 'in' : 'out'
    } catch (error) {
      if (error instanceof ApiError && !error.unreachable) state.value = 'out'
      else throw error
    }
  }

  async function signOut(): Promise<void> {
    try {
      await call('DELETE', '/v1/session')
    } catch {
      // Leaving works without the server; the token dies by itself.
    }
    forget()
  }

  return {
    user,
    role,
    state,
    isAdmin,
    name,
    signIn,
    signOut,
    restore,
    renew,
    forget,
    accessToken: () => access,
  }
})
