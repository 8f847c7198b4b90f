/* Short names for the shapes of the native API (made from its description by `npm run types`), and the few tables about them that pages share. */
import type { components } from './schema'

type Schemas = components['schemas']
export type Job = Schemas['Job']
export type JobState = Job['state']
export type JobSpec = Schemas['JobSpecInput']
export type Line = Schemas['Line']
export type LogPage = Schemas['LogPage']
export type DroverEvent = Schemas['Event']
export type Gpu = Schemas['Gpu']
export type GpuState = Gpu['state']
export type FleetNode = Schemas['Node']
export type Overview = Schemas['Overview']
export type User = Schemas['User']
export type Token = Schemas['Token']
export type TokenMade = Schemas['TokenMade']
export type MailAsk = Schemas['MailAskInput']
export type MailAsked = Schemas['MailAsked']
export type PasswordReset = Schemas['PasswordResetInput']
export type EmailVerify = Schemas['EmailVerifyInput']
export type Session = Schemas['Session']
export type SessionInfo = Schemas['WhoAmI']
export type Ticket = Schemas['Ticket']

/** RFC 9457, with our members; `errors` is empty unless the status is 422. */
export interface Problem {
  type: string
  title: string
  status: number
  detail: string
  code: string
  request_id: string
  errors: { field: string; rule: string; message: string }[]
  hint: string | null
}

export interface Page<T> {
  items: T[]
  next_cursor: string | null
}

export const activeStates: readonly JobState[] = ['queued', 'starting', 'running', 'cancelling', 'unknown']
export const endedStates: readonly JobState[] = ['completed', 'failed', 'timeout', 'cancelled']
export const jobStates: readonly JobState[] = [...activeStates, ...endedStates]
export const gpuStates: readonly GpuState[] = ['available', 'leased', 'foreign', 'error', 'driver_hung', 'offline', 'split']

export function isEnded(state: JobState): boolean {
  return endedStates.includes(state)
}

export function canCancel(job: Job): boolean {
  return !isEnded(job.state) && job.state !== 'cancelling'
}
