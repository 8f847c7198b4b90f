/* One way to call the server. Adds the credential and the language, turns every failure into an
 * ApiError with the server's own sentence, and on 401 renews the session once before giving up.
 * The session store installs its hooks here, so that this file knows no store. */
import type { Problem } from './types'

export class ApiError extends Error {
  constructor(
    readonly status: number /* 0: the server could not be reached */,
    readonly code: string,
    message: string,
    readonly hint: string | null = null,
    readonly fields: Problem['errors'] = [],
    readonly retryAfterS: number | null = null,
  ) {
    super(message)
  }
  get unreachable(): boolean {
    return this.status === 0 || this.status === 502 || this.status === 504
  }
}

export interface ClientHooks {
  accessToken(): string | null
  /** Gets a new access token; false when the session has ended. Throws when it cannot tell. */
  renew(): Promise<boolean>
  ended(): void
  reached(ok: boolean): void
  language(): string
}

let hooks: ClientHooks = {
  accessToken: () => null,
  renew: () => Promise.resolve(false),
  ended: () => undefined,
  reached: () => undefined,
  language: () => 'en',
}
export function installHooks(next: ClientHooks): void {
  hooks = next
}

/* Difference between the server's clock and this one, so that "ran 12 s" is right on a
 * workstation whose clock is off. The header has whole seconds: small differences are noise. */
let skewMs = 0
export function serverNow(): number {
  return Date.now() + skewMs
}
function noteServerTime(header: string | null): void {
  if (!header) return
  const difference = Date.parse(header) + 500 - Date.now()
  if (Number.isFinite(difference)) skewMs = Math.abs(difference) > 1500 ? difference : 0
}

export interface CallOptions {
  query?: Record<string, string | number | null | undefined>
  body?: unknown
  headers?: Record<string, string>
  signal?: AbortSignal
  /** Session calls carry no credential and are never renewed. */
  anonymous?: boolean
  timeoutMs?: number
}

export function address(path: string, query?: CallOptions['query']): string {
  if (!query) return path
  const search = new URLSearchParams()
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== '') search.set(name, String(value))
  }
  const text = search.toString()
  return text ? `${path}?${text}` : path
}

async function send(method: string, path: string, options: CallOptions): Promise<Response> {
  const headers: Record<string, string> = { 'Accept-Language': hooks.language(), ...options.headers }
  const token = options.anonymous ? null : hooks.accessToken()
  if (token) headers.Authorization = `Bearer ${token}`
  if (options.body !== undefined) headers['Content-Type'] = 'application/json'
  const limit = new AbortController()
  const timer = setTimeout(() => limit.abort(), options.timeoutMs ?? 30_000)
  const forward = () => limit.abort()
  options.signal?.addEventListener('abort', forward)
  try {
    const answer = await fetch(address(path, options.query), {
      method,
      headers,
      body: options.body === undefined ? undefined : JSON.stringify(options.body),
      signal: limit.signal,
      cache: 'no-store',
      credentials: 'same-origin',
    })
    noteServerTime(answer.headers.get('date'))
    hooks.reached(answer.status !== 502 && answer.status !== 504)
    return answer
  } catch (cause) {
    if (options.signal?.aborted) throw cause
    hooks.reached(false)
    throw new ApiError(0, 'unreachable', '')
  } finally {
    clearTimeout(timer)
    options.signal?.removeEventListener('abort', forward)
  }
}

async function problem(answer: Response): Promise<ApiError> {
  const retryAfter = Number(answer.headers.get('retry-after'))
  let body: Partial<Problem> = {}
  try {
    body = (await answer.json()) as Partial<Problem>
  } catch {
    // A proxy in between answers in its own words; the status is what is left.
  }
  return new ApiError(
    answer.status,
    body.code ?? '',
    typeof body.detail === 'string' && body.detail ? body.detail : (body.title ?? `HTTP ${answer.status}`),
    body.hint ?? null,
    Array.isArray(body.errors) ? body.errors : [],
    Number.isFinite(retryAfter) && retryAfter > 0 ? retryAfter : null,
  )
}

export async function callRaw(method: string, path: string, options: CallOptions = {}): Promise<Response> {
  let answer = await send(method, path, options)
  if (answer.status === 401 && !options.anonymous) {
    if (await hooks.renew()) answer = await send(method, path, options)
    if (answer.status === 401) hooks.ended()
  }
  if (!answer.ok) throw await problem(answer)
  return answer
}

export async function call<T>(method: string, path: string, options: CallOptions = {}): Promise<T> {
  const answer = await callRaw(method, path, options)
  if (answer.status === 204) return undefined as T
  return (await answer.json()) as T
}

export const get = <T>(path: string, query?: CallOptions['query'], signal?: AbortSignal): Promise<T> =>
  call<T>('GET', path, { query, signal })
export const post = <T>(path: string, body: unknown = {}, headers?: Record<string, string>): Promise<T> =>
  call<T>('POST', path, { body, headers })
export const remove = (path: string): Promise<void> => call<void>('DELETE', path)

/** Random text for Idempotency-Key; crypto.randomUUID exists only on secure origins. */
export function randomKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16))
  return Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join('')
}
