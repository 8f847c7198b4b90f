/* What the server says about itself. */
import { defineStore } from 'pinia'
import { ref } from 'vue'
import { call } from '@/api/client'
import type { components } from '@/api/schema'

export const useServer = defineStore('server', () => {
  const version = ref('')
  const demo = ref(false)
  /** Set by the overview too, which knows about simulated GPUs outside the demo. */
  const simulated = ref(false)

  async function load(): Promise<void> {
    try {
      const found = await call<components['schemas']['Version']>('GET', '/v1/version', { anonymous: true })
      version.value = found.version
      demo.value = found.demo
      simulated.value ||= found.demo
    } catch {
      // Only a caption; the pages report a lost server themselves.
    }
  }
  return { version, demo, simulated, load }
})
