/* Short names for the shapes of the native API, and the few tables about them that pages share. */
import type { components } from './schema'

type Schemas = components['schemas']
export type Job = Schemas['Job']
export type JobState = Schemas['JobState']
export type JobSpec = Schemas['JobSpecInput']
export type Line = Schemas['Line']
export type LogPage = Schemas['LogPage']
export type DroverEvent = Schemas['Event']
export type Gpu = Schemas['Gpu']
export type GpuState = Schemas['GpuState']
export type FleetNode = Schemas['Node']
export type Overview = Schemas['Overview']
export type User = Schemas['User']
export type Token = Schemas['Token']
export type TokenMade = Schemas['TokenMade']
export type Session = Schemas['Session']
export type SessionInfo = Schemas['WhoAmI']
export type Ticket = Schemas['Ticket']
export type Problem = Schemas['Problem']

export interface Page<T> {
  items: T[]
  next_cursor: string | null
}

export const activeStates: readonly JobState[] = ['queued', 'starting', 'running', 'cancelling', 'unknown']
export const endedStates: readonly JobState[] = ['completed', 'failed', 'timeout', 'cancelled']
export const jobStates: readonly JobState[] = [...activeStates, ...endedStates]
export const gpuStates: readonly GpuState[] = ['available', 'leased', 'foreign', 'error', 'driver_hung', 'offline']

export function isEnded(state: JobState): boolean {
  return endedStates.includes(state)
}

export function canCancel(job: Job): boolean {
  return !isEnded(job.state) && job.state !== 'cancelling'
}
