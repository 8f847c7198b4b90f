/* Made by `npm run types` from the server's /openapi.json; not edited by hand. */
export type paths = Record<string, never>;
export type webhooks = Record<string, never>;
export interface components {
    schemas: {
        AgentJoinInput: {
            token: string;
            /** @description of the node */
            name: string;
            /** @description SHA-256 of the credential that the agent made, in hexadecimal */
            credential_hash: string;
        };
        AgentJoined: {
            /** @description node id */
            node: string;
            /** @description host name */
            name: string;
            /** @description of the server */
            version: string;
        };
        AuditEntry: {
            /** @description the entry */
            id: string;
            /**
             * Format: date-time
             * @description when
             */
            at: string;
            /** @description who, such as user:li@example.com */
            principal: string;
            /** @description the account; null: none, or the built-in local */
            user_id: string | null;
            /** @description how the caller was recognised */
            via: string;
            method: string;
            /** @description the path with its parameters' names */
            route: string;
            /** @description what it hit */
            target: string | null;
            /** @description ok, or the kind of the refusal */
            outcome: string;
            /** @description where it came from */
            address: string;
            /** Format: uuid */
            request_id: string;
        };
        AuditList: {
            items: components["schemas"]["AuditEntry"][];
            /** @description for the query's cursor; null: that was all */
            next_cursor: string | null;
        };
        CredentialsInput: {
            email: string;
            password: string;
        };
        EmailVerifyInput: {
            token: string;
        };
        Event: {
            /** @description place in the log, for `after` */
            id: string;
            /**
             * Format: date-time
             * @description when it happened
             */
            at: string;
            /** @description what happened, such as job.status.changed */
            type: string;
            /** @description kind of the thing it happened to */
            source_type: string;
            /** @description the thing it happened to */
            source_id: string;
            /** @enum {string} */
            severity: "info" | "warning" | "error";
            /** @description who did it */
            actor: string;
            /** @description one sentence */
            summary: string;
            /** @description the facts */
            data: Record<string, never>;
        };
        EventList: {
            items: components["schemas"]["Event"][];
            /** @description for the query's cursor; null: that was all */
            next_cursor: string | null;
        };
        Gpu: {
            /** @description such as gpu-001 */
            id: string;
            node: string;
            node_name: string;
            /** @description on its node */
            index: number;
            uuid: string | null;
            name: string | null;
            /** @description short name, for gpu_type of a job */
            type: string | null;
            memory_total_mib: number | null;
            memory_used_mib: number | null;
            /** @description percent; null: unknown */
            utilization: number | null;
            /** @description percent */
            memory_utilization: number | null;
            temperature_c: number | null;
            power_w: number | null;
            power_limit_w: number | null;
            /** @enum {string} */
            state: "available" | "leased" | "foreign" | "error" | "driver_hung" | "offline" | "split";
            holder: components["schemas"]["GpuHolder"] | null;
            processes: components["schemas"]["GpuProcessRow"][];
            simulated: boolean;
            driver: string | null;
            cuda: string | null;
            /**
             * Format: date-time
             * @description when these values were read
             */
            updated_at: string | null;
            /** @description what is wrong with it */
            note: string | null;
            /** @enum {string} */
            health: "ok" | "degraded" | "failed" | "unknown";
            health_reason: string | null;
            /** @description index of the GPU that it is a MIG instance of */
            parent: number | null;
            /** @description of a MIG instance, such as 1g.10gb */
            profile: string | null;
            /** @description how old the values were when they came; grows while a driver hangs */
            age_ms: number | null;
            /** @description what holds its clocks down */
            throttle: string[];
            /** @description thousandths that are not leased */
            free_milli: number;
            /** @description all who hold a part of it */
            holders: components["schemas"]["GpuHolder"][];
            clock_sm_mhz: number | null;
        };
        GpuFacts: {
            /** @description clock of the multiprocessors */
            clock_sm_mhz: number | null;
            /** @description clock of the memory */
            clock_memory_mhz: number | null;
            /** @description clock of the graphics engine */
            clock_graphics_mhz: number | null;
            /** @description clock of the video engine */
            clock_video_mhz: number | null;
            /** @description highest clock of the multiprocessors */
            clock_sm_max_mhz: number | null;
            /** @description highest clock of the memory */
            clock_memory_max_mhz: number | null;
            /** @description highest clock of the graphics engine */
            clock_graphics_max_mhz: number | null;
            /** @description why the clocks are held down: bits, see throttle */
            throttle_bits: number | null;
            /** @description fan speed in percent of its highest */
            fan_percent: number | null;
            /** @description P-state: 0 is the fastest */
            performance_state: number | null;
            /** @description use of the video encoder */
            encoder_percent: number | null;
            /** @description use of the video decoder */
            decoder_percent: number | null;
            /** @description energy used since the driver was loaded, in millijoules */
            energy_mj: number | null;
            /** @description power limit as it was made */
            power_limit_default_w: number | null;
            /** @description lowest power limit that can be set */
            power_limit_min_w: number | null;
            /** @description highest power limit that can be set */
            power_limit_max_w: number | null;
            /** @description it slows itself down from here */
            temperature_slowdown_c: number | null;
            /** @description it switches itself off here */
            temperature_shutdown_c: number | null;
            /** @description memory that the driver keeps for itself */
            memory_reserved_mib: number | null;
            /** @description memory that can be mapped over the bus */
            bar1_total_mib: number | null;
            /** @description of it in use */
            bar1_used_mib: number | null;
            /** @description PCIe generation now (it drops when idle) */
            pcie_generation: number | null;
            /** @description highest PCIe generation here */
            pcie_generation_max: number | null;
            /** @description PCIe lanes now */
            pcie_width: number | null;
            /** @description most PCIe lanes here */
            pcie_width_max: number | null;
            /** @description packets that PCIe had to send again */
            pcie_replays: number | null;
            /** @description received over PCIe */
            pcie_rx_kib_s: number | null;
            /** @description sent over PCIe */
            pcie_tx_kib_s: number | null;
            /** @description memory errors are corrected */
            ecc_enabled: number | null;
            /** @description what ecc_enabled will be after a reset */
            ecc_pending: number | null;
            /** @description corrected errors since the driver was loaded */
            ecc_corrected: number | null;
            /** @description corrected errors in its life */
            ecc_corrected_total: number | null;
            /** @description uncorrected errors in its life */
            ecc_uncorrected_total: number | null;
            /** @description pages retired for repeated corrected errors */
            retired_pages_single: number | null;
            /** @description pages retired for an uncorrected error */
            retired_pages_double: number | null;
            /** @description pages wait for a reset to be retired */
            retired_pages_pending: number | null;
            /** @description rows replaced: corrected errors */
            remapped_rows_correctable: number | null;
            /** @description rows replaced: uncorrected errors */
            remapped_rows_uncorrectable: number | null;
            /** @description rows wait for a reset to be replaced */
            remapped_rows_pending: number | null;
            /** @description no spare rows are left */
            remapped_rows_failed: number | null;
            /** @description NVLinks that are up */
            nvlinks_active: number | null;
            /** @description errors of all NVLinks, every kind */
            nvlink_errors: number | null;
            /** @description 0 shared, 1 and 3 one process, 2 no compute */
            compute_mode: number | null;
            /** @description the driver stays loaded when nobody uses it */
            persistence: number | null;
            /** @description it can be split into MIG instances */
            mig_enabled: number | null;
            /** @description NUMA node of the host that it hangs on */
            numa_node: number | null;
        };
        GpuHolder: {
            /** @enum {string} */
            kind: "job" | "instance" | "allocation" | "repair";
            id: string;
            /** @description null: not the caller's to see */
            name: string | null;
            owner: string | null;
            /** @description thousandths of the GPU */
            milli: number;
        };
        GpuLink: {
            active: boolean;
            version: number | null;
            replays: number | null;
            recoveries: number | null;
            flit_crc: number | null;
            data_crc: number | null;
        };
        GpuList: {
            items: components["schemas"]["Gpu"][];
            /** @description for the query's cursor; null: that was all */
            next_cursor: string | null;
        };
        GpuMemoryRow: {
            /**
             * @description nobody: in use, and no process says that it is its own
             * @enum {string}
             */
            kind: "holder" | "foreign" | "dead" | "nobody" | "driver" | "free";
            /** @description of a holder */
            id: string | null;
            name: string | null;
            pid: number | null;
            user: string | null;
            declared_mib: number | null;
            measured_mib: number | null;
        };
        GpuProcessRow: {
            pid: number;
            name: string | null;
            memory_mib: number | null;
            /** @description null: not one of Drover's */
            job: string | null;
            /** @description its share of the multiprocessors */
            sm_percent: number | null;
            user: string | null;
            /** @description compute, graphics, or mps */
            kind: string;
            /** @description it is gone and its memory was not given back */
            dead: boolean;
        };
        GpuWhole: {
            /** @description such as gpu-001 */
            id: string;
            node: string;
            node_name: string;
            /** @description on its node */
            index: number;
            uuid: string | null;
            name: string | null;
            /** @description short name, for gpu_type of a job */
            type: string | null;
            memory_total_mib: number | null;
            memory_used_mib: number | null;
            /** @description percent; null: unknown */
            utilization: number | null;
            /** @description percent */
            memory_utilization: number | null;
            temperature_c: number | null;
            power_w: number | null;
            power_limit_w: number | null;
            /** @enum {string} */
            state: "available" | "leased" | "foreign" | "error" | "driver_hung" | "offline" | "split";
            holder: components["schemas"]["GpuHolder"] | null;
            processes: components["schemas"]["GpuProcessRow"][];
            simulated: boolean;
            driver: string | null;
            cuda: string | null;
            /**
             * Format: date-time
             * @description when these values were read
             */
            updated_at: string | null;
            /** @description what is wrong with it */
            note: string | null;
            /** @enum {string} */
            health: "ok" | "degraded" | "failed" | "unknown";
            health_reason: string | null;
            /** @description index of the GPU that it is a MIG instance of */
            parent: number | null;
            /** @description of a MIG instance, such as 1g.10gb */
            profile: string | null;
            /** @description how old the values were when they came; grows while a driver hangs */
            age_ms: number | null;
            /** @description what holds its clocks down */
            throttle: string[];
            /** @description thousandths that are not leased */
            free_milli: number;
            /** @description all who hold a part of it */
            holders: components["schemas"]["GpuHolder"][];
            memory_temperature_c: number | null;
            /** @description uncorrected errors since the driver was loaded */
            ecc_uncorrected: number | null;
            /** @description used since the driver was loaded */
            energy_kwh: number | null;
            serial: string | null;
            vbios: string | null;
            bus: string | null;
            /** @description how near the GPUs of its host are, by index: B same board, P one switch, X several, H same root, N same NUMA node, S across */
            topology: string | null;
            facts: components["schemas"]["GpuFacts"];
            links: components["schemas"]["GpuLink"][];
            /** @description the newest first */
            xids: components["schemas"]["GpuXid"][];
            /** @description whose the memory is: declared beside measured */
            memory: components["schemas"]["GpuMemoryRow"][];
            /** @description of jobs */
            memory_ours_mib: number | null;
            /** @description of processes that Drover did not start */
            memory_foreign_mib: number | null;
            /** @description of processes that are gone */
            memory_dead_mib: number | null;
            /** @description in use, and no process says that it is its own */
            memory_nobody_mib: number | null;
            /** @description kept back by the driver */
            memory_driver_mib: number | null;
            memory_free_mib: number | null;
            /** @description what a further share could still be promised */
            memory_unpromised_mib: number | null;
        };
        GpuXid: {
            code: number;
            /**
             * Format: date-time
             * @description the last time
             */
            at: string;
            count: number;
            /**
             * @description what it says of the GPU while it is fresh
             * @enum {string}
             */
            says: "ok" | "degraded" | "failed" | "unknown";
            meaning: string;
            action: string;
        };
        Job: {
            /** @description job id */
            id: string;
            /**
             * Format: uuid
             * @description the same job on the documented surfaces
             */
            uuid: string;
            name: string;
            /** @enum {string} */
            kind: "run" | "cloud" | "training" | "preprocess" | "download";
            /** @enum {string} */
            state: "queued" | "starting" | "running" | "cancelling" | "unknown" | "completed" | "failed" | "timeout" | "cancelled";
            /** @description why it is in this state */
            reason: string | null;
            /** @description who submitted it */
            owner: string;
            /** @description null: the server's own host */
            owner_id: string | null;
            /** @description low, normal, high or urgent */
            priority: string;
            priority_value: number;
            /** @description program and arguments */
            command: string[];
            /** @description environment of the job */
            env: {
                [key: string]: string;
            };
            /** @description variables that hold secrets, and their names */
            secrets: {
                [key: string]: string;
            };
            /** @description working directory */
            cwd: string | null;
            /** @description container image */
            image: string | null;
            /** @description GPUs asked for */
            gpus: number;
            /** @description GPU types that will do; empty: any */
            gpu_type: string[];
            /** @description threads */
            cpus: number | null;
            /** @description memory limit in MiB */
            memory_mib: number | null;
            /** @description time limit in seconds */
            time_limit_s: number | null;
            /** @description further tries after a failure */
            retries: number;
            /** @description tries begun so far */
            attempt: number;
            labels: {
                [key: string]: string;
            };
            /** @description where it runs */
            node: string | null;
            node_name: string | null;
            /** @description GPUs it holds or held last */
            gpu_ids: string[];
            exit_code: number | null;
            signal: number | null;
            /**
             * @description how it ended
             * @enum {string|null}
             */
            end_reason: "exited" | "signalled" | "out_of_memory" | "timed_out" | "cancelled" | "supervisor_lost" | "start_failed" | "node_rebooted" | "node_lost" | "provider" | null;
            /** Format: date-time */
            created_at: string;
            /** Format: date-time */
            started_at: string | null;
            /** Format: date-time */
            ended_at: string | null;
            /** @description in the queue, the last time */
            waited_s: number | null;
            /** @description null: it has not started */
            ran_s: number | null;
            /** @description place in the queue from 1; null when it is not queued, and in lists behind the first 20,000 */
            position: number | null;
            /** @description null: own hosts have no price */
            cost: number | null;
            currency: string | null;
            /** @description made up: the demo, not a real run */
            simulated: boolean;
            /** @description threads of a host that the scheduler counts for it: `cpus`, or when that is null 1 without GPUs and 0 with */
            cpus_counted: number;
            /** @description what its submitter should know: a limit that its node does not enforce */
            notes: string[];
            /** @description of its newest try; null in lists and in answers to changes */
            log_lines: number | null;
        };
        JobCancelInput: {
            /** @description seconds between SIGTERM and SIGKILL; the job's own when left out */
            grace_s?: number | null;
        };
        JobFiles: {
            /** @description tree that its folder began with */
            code: string | null;
            /** @description what is kept at its end */
            out: string[];
            /** @description tree of what was kept */
            result: string | null;
            /** @description why nothing was kept */
            note: string | null;
        };
        JobList: {
            items: components["schemas"]["Job"][];
            /** @description for the query's cursor; null: that was all */
            next_cursor: string | null;
        };
        JobSpecInput: {
            /** @description made from the command when it is left out */
            name?: string | null;
            /** @description program and arguments; no shell */
            command: string[];
            /** @description added to the job's environment */
            env?: {
                [key: string]: string;
            };
            /** @description variable to the name of a secret of yours, which it will hold */
            secrets?: {
                [key: string]: string;
            };
            /** @description working directory */
            cwd?: string | null;
            /** @description tree that its working folder begins with */
            code?: string | null;
            /** @description what is kept of its working folder at its end: paths or globs */
            out?: string[];
            /** @description container image, at providers that run images */
            image?: string | null;
            /** @default 0 */
            gpus?: number;
            /** @description any of these will do */
            gpu_type?: string[];
            /** @description threads; left out, 1 is counted for a job without GPUs and none with, and nothing limits it */
            cpus?: number | null;
            /** @description limit; beyond it the job is ended, where its node enforces that (the answer's notes say where not) */
            memory_mib?: number | null;
            time_limit_s?: number | null;
            /**
             * @description low, normal, high, urgent, or "1" to "10"
             * @default normal
             */
            priority?: string;
            /**
             * @description further tries after a failure
             * @default 0
             */
            retries?: number;
            labels?: {
                [key: string]: string;
            };
        };
        JoinToken: {
            /** @description the token */
            id: string;
            /** @description names of nodes that may join with it, such as gpu-*; null: any */
            name: string | null;
            /** @description its first characters */
            prefix: string;
            /** @description how many nodes may join with it */
            uses: number;
            /** @description how many have */
            used: number;
            made_by: string;
            /** Format: date-time */
            created_at: string;
            /** Format: date-time */
            expires_at: string;
        };
        JoinTokenList: {
            items: components["schemas"]["JoinToken"][];
            /** @description for the query's cursor; null: that was all */
            next_cursor: string | null;
        };
        JoinTokenMade: {
            /** @description the token */
            id: string;
            /** @description names of nodes that may join with it, such as gpu-*; null: any */
            name: string | null;
            /** @description its first characters */
            prefix: string;
            /** @description how many nodes may join with it */
            uses: number;
            /** @description how many have */
            used: number;
            made_by: string;
            /** Format: date-time */
            created_at: string;
            /** Format: date-time */
            expires_at: string;
            /** @description shown once */
            token: string;
        };
        JoinTokenMakeInput: {
            /** @description names of nodes that may join with it, such as gpu-*; any when left out */
            name?: string | null;
            /**
             * @description how many nodes may join with it
             * @default 1
             */
            uses?: number;
            /**
             * @description how long it is good, s
             * @default 86400
             */
            expires_s?: number;
        };
        Line: {
            /** @description line number from 1 in its try */
            n: number;
            /** @description where it stands in its try's log */
            offset: number;
            /** Format: date-time */
            at: string;
            /**
             * @description system: Drover's own remarks
             * @enum {string}
             */
            stream: "out" | "err" | "system";
            /** @description bytes that are no UTF-8 are U+FFFD */
            text: string;
            /** @description which try of the job, from 1 */
            attempt: number;
            /** @description the line goes on in a later item with the same n */
            partial: boolean;
        };
        LogPage: {
            items: components["schemas"]["Line"][];
            /** @description read on from here */
            next_offset: number;
            /** @description the job prints no more and nothing is left behind next_offset */
            complete: boolean;
        };
        MailAskInput: {
            email: string;
        };
        MailAsked: {
            /** @description this server sends mail; else an administrator makes the link */
            mail: boolean;
        };
        Node: {
            /** @description node id */
            id: string;
            /** @description host name */
            name: string;
            /** @enum {string} */
            state: "unreachable" | "online" | "down" | "removed";
            /** @description one sentence: why it is in this state */
            state_reason: string | null;
            /** Format: date-time */
            state_since: string | null;
            /** @description the server's own host */
            is_local: boolean;
            /**
             * Format: date-time
             * @description when its agent joined; null: the server's own host
             */
            joined_at: string | null;
            agent_version: string | null;
            /** Format: date-time */
            last_seen: string | null;
            boot_id: string | null;
            os: string | null;
            kernel: string | null;
            cpus: number;
            memory_mib: number | null;
            memory_used_mib: number | null;
            cpu_percent: number | null;
            gpus: number;
            /** @description why it has no GPUs */
            gpu_note: string | null;
            /** @description control groups of the kernel: v2, hybrid, v1 or none */
            cgroups: string | null;
            /** @description limits that it really enforces */
            enforces: string[];
            /** @description what keeps its jobs apart, in force */
            isolation: string[];
        };
        NodeList: {
            items: components["schemas"]["Node"][];
            /** @description for the query's cursor; null: that was all */
            next_cursor: string | null;
        };
        NodeLostDone: {
            node: string;
            ended_jobs: number;
        };
        NodeLostInput: {
            /**
             * @description its jobs end as lost; without it the answer says which
             * @default false
             */
            confirm?: boolean;
        };
        Overview: {
            version: string;
            demo: boolean;
            /** @description some GPU is */
            simulated: boolean;
            uptime_s: number;
            jobs: components["schemas"]["OverviewJobs"];
            gpus: components["schemas"]["OverviewGpus"];
            nodes: components["schemas"]["OverviewNodes"];
            waiting: components["schemas"]["Job"][];
            problems: components["schemas"]["OverviewProblem"][];
        };
        OverviewGpus: {
            total: number;
            available: number;
            leased: number;
            foreign: number;
            /** @description failed, hung or out of reach */
            error: number;
        };
        OverviewJobs: {
            queued: number;
            starting: number;
            running: number;
            unknown: number;
            completed_24h: number;
            failed_24h: number;
        };
        OverviewNodes: {
            total: number;
            online: number;
        };
        OverviewProblem: {
            /** @description one sentence */
            text: string;
            /** @description the page that shows it */
            link: string | null;
        };
        PasswordResetInput: {
            token: string;
            password: string;
        };
        RefreshInput: {
            refresh_token: string;
        };
        ResetLink: {
            /** @description works once; shown once */
            url: string;
            /** Format: date-time */
            expires_at: string;
        };
        Secret: {
            /** @description its name */
            name: string;
            /**
             * Format: date-time
             * @description when it was made
             */
            created_at: string;
            /**
             * Format: date-time
             * @description when its text was last given
             */
            updated_at: string;
        };
        SecretList: {
            items: components["schemas"]["Secret"][];
            /** @description for the query's cursor; null: that was all */
            next_cursor: string | null;
        };
        SecretValueInput: {
            /** @description kept sealed; no route tells it again */
            value: string;
        };
        SecretsRotated: {
            /** @description secrets under the new key */
            resealed: number;
        };
        Session: {
            access_token: string;
            /** @description good for one use */
            refresh_token: string;
            /** @description life of the access token, s */
            expires_in: number;
            user: components["schemas"]["User"];
        };
        SignIn: {
            /** @description the sign-in */
            id: string;
            user_id: string;
            /** @description where it was made from */
            address: string;
            /** @description the program it was made with, as that names itself */
            agent: string | null;
            /** Format: date-time */
            created_at: string;
            /**
             * Format: date-time
             * @description when it was renewed last
             */
            used_at: string;
            /**
             * Format: date-time
             * @description when it ends without use
             */
            expires_at: string;
            /** @description the one that asks */
            current: boolean;
        };
        SignInList: {
            items: components["schemas"]["SignIn"][];
            /** @description for the query's cursor; null: that was all */
            next_cursor: string | null;
        };
        Stream: {
            /** @description for /v1/streams/{id}; good for a minute */
            id: string;
            job: string;
            attempt: number;
        };
        StreamAskInput: {
            /** @enum {string} */
            kind: "exec" | "shell" | "tcp" | "read" | "write";
            /** @description exec: program and arguments */
            argv?: string[];
            /**
             * @description exec: with a terminal
             * @default false
             */
            tty?: boolean;
            /**
             * @description of the terminal
             * @default 24
             */
            rows?: number;
            /** @default 80 */
            cols?: number;
            /** @description its TERM */
            term?: string | null;
            /**
             * @description tcp: on 127.0.0.1
             * @default 0
             */
            port?: number;
            /** @description read, write: in the job, or from its working directory */
            path?: string | null;
        };
        Ticket: {
            /** @description for ?ticket=, good for one connection */
            ticket: string;
            /** @description s */
            expires_in: number;
        };
        Token: {
            /** @description the token */
            id: string;
            /** @description what it is for */
            name: string;
            /** @description its first characters */
            prefix: string;
            /** @description what it may do on routes for operators; null: what its account's role may */
            permissions: string[] | null;
            /**
             * Format: date-time
             * @description when it was made
             */
            created_at: string;
            /**
             * Format: date-time
             * @description the last use, to within a minute
             */
            last_used_at: string | null;
            /**
             * Format: date-time
             * @description when it ends by itself
             */
            expires_at: string | null;
        };
        TokenList: {
            items: components["schemas"]["Token"][];
            /** @description for the query's cursor; null: that was all */
            next_cursor: string | null;
        };
        TokenMade: {
            /** @description the token */
            id: string;
            /** @description what it is for */
            name: string;
            /** @description its first characters */
            prefix: string;
            /** @description what it may do on routes for operators; null: what its account's role may */
            permissions: string[] | null;
            /**
             * Format: date-time
             * @description when it was made
             */
            created_at: string;
            /**
             * Format: date-time
             * @description the last use, to within a minute
             */
            last_used_at: string | null;
            /**
             * Format: date-time
             * @description when it ends by itself
             */
            expires_at: string | null;
            /** @description shown once */
            token: string;
        };
        TokenMakeInput: {
            name: string;
            /** @description never when it is left out */
            expires_in_days?: number | null;
            /** @description of training, preprocessing, model_download, fleet, inference; what the role has when it is left out */
            permissions?: string[] | null;
        };
        User: {
            /** @description the account */
            id: string;
            /**
             * Format: uuid
             * @description the account on the documented surfaces
             */
            uuid: string;
            /** @description lower-case address */
            email: string;
            /**
             * @description what the account may do
             * @enum {string}
             */
            role: "user" | "operator" | "engineer" | "admin";
            /** @description given name */
            first_name: string | null;
            /** @description family name */
            last_name: string | null;
            /** @description name to show */
            nickname: string | null;
            /** @description where the person works; only a text */
            organization: string | null;
            /** @description an inactive account cannot sign in */
            is_active: boolean;
            /** @description the e-mail was confirmed */
            is_verified: boolean;
            /**
             * Format: date-time
             * @description when it was made
             */
            created_at: string | null;
            /**
             * Format: date-time
             * @description the last sign-in
             */
            last_login: string | null;
        };
        UserChangeInput: {
            email?: string;
            password?: string;
            /**
             * @description administrators only
             * @enum {string}
             */
            role?: "user" | "operator" | "engineer" | "admin";
            first_name?: string | null;
            last_name?: string | null;
            nickname?: string | null;
            organization?: string | null;
            /** @description administrators only */
            is_active?: boolean;
            /** @description administrators only */
            is_verified?: boolean;
        };
        UserList: {
            items: components["schemas"]["User"][];
            /** @description for the query's cursor; null: that was all */
            next_cursor: string | null;
        };
        UserMade: {
            /** @description the account */
            id: string;
            /**
             * Format: uuid
             * @description the account on the documented surfaces
             */
            uuid: string;
            /** @description lower-case address */
            email: string;
            /**
             * @description what the account may do
             * @enum {string}
             */
            role: "user" | "operator" | "engineer" | "admin";
            /** @description given name */
            first_name: string | null;
            /** @description family name */
            last_name: string | null;
            /** @description name to show */
            nickname: string | null;
            /** @description where the person works; only a text */
            organization: string | null;
            /** @description an inactive account cannot sign in */
            is_active: boolean;
            /** @description the e-mail was confirmed */
            is_verified: boolean;
            /**
             * Format: date-time
             * @description when it was made
             */
            created_at: string | null;
            /**
             * Format: date-time
             * @description the last sign-in
             */
            last_login: string | null;
            /** @description only when it was generated; shown once */
            password?: string;
        };
        UserMakeInput: {
            email: string;
            /** @description generated when it is left out */
            password?: string;
            /**
             * @default user
             * @enum {string}
             */
            role?: "user" | "operator" | "engineer" | "admin";
            first_name?: string | null;
            last_name?: string | null;
            nickname?: string | null;
            organization?: string | null;
        };
        Version: {
            version: string;
            api: string;
            /** Format: date-time */
            started_at: string;
            /** @description example accounts and simulated hardware */
            demo: boolean;
        };
        WhoAmI: {
            user: components["schemas"]["User"] | null;
            /**
             * @description how the request was recognised
             * @enum {string}
             */
            via: "nobody" | "session" | "token" | "unix" | "trusted" | "ticket" | "agent";
            /** @enum {string} */
            role: "user" | "operator" | "engineer" | "admin";
        };
    };
    responses: never;
    parameters: never;
    requestBodies: never;
    headers: never;
    pathItems: never;
}
export type $defs = Record<string, never>;
export type operations = Record<string, never>;
