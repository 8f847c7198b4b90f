/* Shapes of the native API in the form that openapi-typescript writes. `npm run types` puts the
 * file made from the running server's description in this place; everything else in the UI takes
 * its types from api/types.ts, which only names members of `components`. */

export interface components {
  schemas: {
    JobState: 'queued' | 'starting' | 'running' | 'cancelling' | 'unknown' | 'completed' | 'failed' | 'timeout' | 'cancelled'
    EndReason:
      | 'exited'
      | 'signalled'
      | 'out_of_memory'
      | 'timed_out'
      | 'cancelled'
      | 'supervisor_lost'
      | 'start_failed'
      | 'node_rebooted'
    JobSpecInput: {
      name?: string
      command: string[]
      env?: { [key: string]: string }
      cwd?: string | null
      image?: string | null
      gpus?: number
      gpu_type?: string[]
      cpus?: number | null
      memory_mib?: number | null
      time_limit_s?: number | null
      priority?: string
      retries?: number
      labels?: { [key: string]: string }
    }
    Job: {
      id: string
      uuid: string
      name: string
      kind: string
      state: components['schemas']['JobState']
      reason: string | null
      owner: string
      owner_id: string | null
      priority: string
      priority_value: number
      command: string[]
      env: { [key: string]: string }
      cwd: string | null
      image: string | null
      gpus: number
      gpu_type: string[]
      cpus: number | null
      memory_mib: number | null
      time_limit_s: number | null
      retries: number
      attempt: number
      labels: { [key: string]: string }
      node: string | null
      node_name: string | null
      gpu_ids: string[]
      exit_code: number | null
      signal: number | string | null
      end_reason: components['schemas']['EndReason'] | null
      created_at: string
      started_at: string | null
      ended_at: string | null
      waited_s: number | null
      ran_s: number | null
      position: number | null
      cost: number | null
      currency: string | null
      simulated: boolean
      log_lines: number | null
    }
    Line: {
      n: number
      offset: number
      at: string
      stream: 'out' | 'err' | 'system'
      text: string
      attempt: number
      partial: boolean
    }
    LogPage: { items: components['schemas']['Line'][]; next_offset: number; complete: boolean }
    Event: {
      id: string
      at: string
      type: string
      source_type: string
      source_id: string
      severity: string
      actor: string | null
      summary: string
      data: { [key: string]: unknown }
    }
    GpuState: 'available' | 'leased' | 'foreign' | 'error' | 'driver_hung' | 'offline'
    GpuHolder: { kind: string; id: string; name: string | null; owner: string | null; milli: number }
    GpuProcess: { pid: number; name: string | null; memory_mib: number | null; job: string | null }
    Gpu: {
      id: string
      node: string
      node_name: string
      index: number
      uuid: string | null
      name: string | null
      type: string | null
      memory_total_mib: number | null
      memory_used_mib: number | null
      utilization: number | null
      memory_utilization: number | null
      temperature_c: number | null
      power_w: number | null
      power_limit_w: number | null
      state: components['schemas']['GpuState']
      holder: components['schemas']['GpuHolder'] | null
      processes: components['schemas']['GpuProcess'][]
      simulated: boolean
      driver: string | null
      cuda: string | null
      updated_at: string | null
      note: string | null
    }
    Node: {
      id: string
      name: string
      state: 'online' | 'offline'
      agent_version: string | null
      last_seen: string | null
      boot_id: string | null
      os: string | null
      kernel: string | null
      cpus: number | null
      memory_mib: number | null
      memory_used_mib: number | null
      cpu_percent: number | null
      gpus: number
      gpu_note: string | null
      cgroups: string | null
      enforces: string[]
    }
    Overview: {
      version: string
      demo: boolean
      simulated: boolean
      uptime_s: number
      jobs: {
        queued: number
        starting: number
        running: number
        unknown: number
        completed_24h: number
        failed_24h: number
      }
      gpus: { total: number; available: number; leased: number; foreign: number; error: number }
      nodes: { total: number; online: number }
      waiting: components['schemas']['Job'][]
      problems: { text: string; link: string | null }[]
    }
    User: {
      id: string
      uuid: string
      email: string
      role: string
      first_name: string | null
      last_name: string | null
      nickname: string | null
      organization: string | null
      is_active: boolean
      is_verified: boolean
      created_at: string
      last_login: string | null
    }
    Token: {
      id: string
      name: string
      prefix: string
      created_at: string
      last_used_at: string | null
      expires_at: string | null
    }
    TokenMade: components['schemas']['Token'] & { token: string }
    Session: {
      access_token: string
      refresh_token: string
      expires_in: number
      user: components['schemas']['User']
    }
    WhoAmI: {
      user: components['schemas']['User'] | null
      via: 'unix' | 'session' | 'token' | 'trusted'
      role: string
    }
    Ticket: { ticket: string; expires_in: number }
    Version: { version: string; api: string; started_at: string; demo: boolean }
    Problem: {
      type: string
      title: string
      status: number
      detail: string
      code: string
      request_id: string
      errors: { field: string; rule: string; message: string }[]
      hint: string | null
    }
  }
}
