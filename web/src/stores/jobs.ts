/* The job lists that were looked at, newest first. A list stays here when its page closes, so that
 * going back shows the same rows at the same place at once. */
import { defineStore } from 'pinia'
import { ref, shallowReactive } from 'vue'
import { get } from '@/api/client'
import type { Job, Page } from '@/api/types'
import { mergeJob, mergePage, type JobFilter } from '@/lib/merge'
import { useSession } from './session'

const pageSize = 200
const listsKept = 6

export interface JobList {
  filter: JobFilter
  rows: Job[]
  cursor: string | null
  loaded: boolean
  loading: boolean
  error: unknown
  updatedMs: number
  scrollTop: number
  selected: string | null
}

export const useJobs = defineStore('jobs', () => {
  const session = useSession()
  const lists = new Map<string, JobList>()
  const lastPath = ref('/jobs')

  function list(filter: JobFilter): JobList {
    const key = JSON.stringify(filter)
    let found = lists.get(key)
    if (!found) {
      found = shallowReactive<JobList>({
        filter,
        rows: [],
        cursor: null,
        loaded: false,
        loading: false,
        error: null,
        updatedMs: 0,
        scrollTop: 0,
        selected: null,
      })
      const oldest = lists.size >= listsKept ? lists.keys().next().value : undefined
      if (oldest !== undefined) lists.delete(oldest)
    } else {
      lists.delete(key)
    }
    lists.set(key, found)
    return found
  }

  function query(target: JobList, cursor: string | null) {
    const { state, q, owner } = target.filter
    return { state, q, owner, cursor, limit: pageSize }
  }

  /** Reads the newest page again; rows further down stay as they are. */
  async function refresh(target: JobList): Promise<void> {
    if (target.loading) return
    target.loading = true
    try {
      const page = await get<Page<Job>>('/v1/jobs', query(target, null))
      const covered = page.next_cursor === null
      if (target.rows.length === 0 || covered) {
        target.rows = page.items
        target.cursor = page.next_cursor
      } else {
        const last = page.items[page.items.length - 1]
        const inPage = new Set(page.items.map((j) => j.id))
        // What lies inside the page's span but is no longer in it has left this list.
        const kept = target.rows.filter((j) => inPage.has(j.id) || (last !== undefined && j.created_at < last.created_at))
        target.rows = mergePage(kept, page.items)
        if (kept.length === page.items.length) target.cursor = page.next_cursor
      }
      target.loaded = true
      target.error = null
      target.updatedMs = Date.now()
    } catch (error) {
      target.error = error
    } finally {
      target.loading = false
    }
  }

  async function more(target: JobList): Promise<void> {
    if (target.loading || target.cursor === null) return
    target.loading = true
    try {
      const page = await get<Page<Job>>('/v1/jobs', query(target, target.cursor))
      target.rows = mergePage(target.rows, page.items)
      target.cursor = page.next_cursor
    } catch (error) {
      target.error = error
    } finally {
      target.loading = false
    }
  }

  /** Applies one live job; says where rows moved so that the page can hold its place. */
  function apply(target: JobList, job: Job): { index: number; by: 1 | -1 } | null {
    if (!target.loaded) return null
    const merged = mergeJob(target.rows, job, target.filter, session.user?.id ?? null, target.cursor === null)
    target.rows = merged.rows
    target.updatedMs = Date.now()
    return merged.change
  }

  function forget(): void {
    lists.clear()
    lastPath.value = '/jobs'
  }

  return { list, refresh, more, apply, forget, lastPath }
})
