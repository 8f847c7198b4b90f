/* The one table of what a state looks like. Colours are variables of styles/base.css. */
const looks: Record<string, { colour: string; icon: string }> = {
  queued: { colour: 'grey', icon: 'queued' },
  starting: { colour: 'blue', icon: 'starting' },
  running: { colour: 'blue', icon: 'running' },
  cancelling: { colour: 'amber', icon: 'starting' },
  unknown: { colour: 'purple', icon: 'unknown' },
  completed: { colour: 'green', icon: 'completed' },
  failed: { colour: 'red', icon: 'failed' },
  timeout: { colour: 'red', icon: 'timeout' },
  cancelled: { colour: 'amber', icon: 'cancelled' },
  available: { colour: 'green', icon: 'completed' },
  leased: { colour: 'blue', icon: 'running' },
  foreign: { colour: 'amber', icon: 'user' },
  error: { colour: 'red', icon: 'failed' },
  driver_hung: { colour: 'red', icon: 'timeout' },
  split: { colour: 'grey', icon: 'queued' },
  offline: { colour: 'purple', icon: 'unknown' },
  online: { colour: 'green', icon: 'completed' },
}

export function stateColour(state: string): string {
  return looks[state]?.colour ?? 'grey'
}
export function stateIcon(state: string): string {
  return looks[state]?.icon ?? 'dot'
}
