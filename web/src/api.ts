// The server's interface, as /openapi.json describes it.

export interface Settings {
  expressions: string[]; text: string[]; intensity: number; seed: number; pipeline: string; unit: string; surroundings: string;
}
export interface Stage { stage: string; at_s: number; done: number; total: number; note: string }
export interface Job {
  id: string; name: string; state: 'queued' | 'running' | 'done' | 'failed'; place: number; attempt: number; created: number;
  deleted_after: number | null; consent: string; settings: Settings; made_up: number | null; landmarks: boolean;
  results: string[]; stages?: Stage[]; files?: { name: string; label: string }[]; notes?: string[];
  scan?: { kind: string; points: number; faces: number; color: boolean };
  error?: { kind: string; line: string }; summary?: string; facts?: Record<string, string | number | boolean>; seconds?: number;
}
export interface About {
  version: string; formats: string[]; upload_bytes: number; keep_hours: number; consent: string; expressions: string[];
  units: string[]; pipelines: string[]; words: boolean;
}
export interface Asked {
  settings?: Partial<Settings>; made_up?: number; again?: string; consent?: boolean; landmarks?: Record<string, [number, number, number]>;
}

const RETRY_MS = 3000;

/** What the server refused, in its own words. */
export class Refused extends Error {}

/** The server was not reached. */
export class Offline extends Error {}

const reached = (path: string, options?: RequestInit): Promise<Response> =>
  fetch(path, options).catch(() => {
    throw new Offline();
  });

async function answer<T>(response: Response): Promise<T> {
  if (response.status === 204) return undefined as T;
  const text = await response.text();
  let data: { error?: { line: string } } = {};
  try {
    data = JSON.parse(text);
  } catch {
    throw new Refused(`${response.status}`);
  }
  if (!response.ok) throw new Refused(data.error?.line ?? `${response.status}`);
  return data as T;
}

export const about = async (): Promise<About> => answer(await reached('/api/about'));
export const jobs = async (): Promise<Job[]> => (await answer<{ jobs: Job[] }>(await reached('/api/jobs'))).jobs;
export const job = async (id: string): Promise<Job> => answer(await reached(`/api/jobs/${id}`));
export const remove = async (id: string): Promise<void> => answer(await reached(`/api/jobs/${id}`, { method: 'DELETE' }));
export const fileOf = (job: Job, name: string): string => `/api/jobs/${job.id}/${name}`;

export async function start(asked: Asked): Promise<Job> {
  const headers = { 'content-type': 'application/json' };
  return answer(await reached('/api/jobs', { method: 'POST', headers, body: JSON.stringify(asked) }));
}

/** Upload files, telling the share that is sent. */
export function upload(asked: Asked, files: File[], onShare: (share: number) => void): Promise<Job> {
  const form = new FormData();
  form.append('request', JSON.stringify(asked));
  for (const file of files) form.append('file', file, file.name);
  return new Promise((resolve, reject) => {
    // fetch cannot tell how much has been sent.
    const request = new XMLHttpRequest();
    request.open('POST', '/api/jobs');
    request.upload.onprogress = (e) => e.lengthComputable && onShare(e.loaded / e.total);
    request.onload = () => answer<Job>(new Response(request.response, { status: request.status })).then(resolve, reject);
    request.onerror = () => reject(new Offline());
    request.send(form);
  });
}

/** Follow a job until it ends; the function returned stops that. */
export function follow(id: string, onJob: (job: Job | null) => void): () => void {
  let source: EventSource, again = 0, over = false;
  const end = () => {
    over = true;
    clearTimeout(again);
    source.close();
  };
  const open = () => {
    source = new EventSource(`/api/jobs/${id}/events`);
    source.addEventListener('job', (e) => onJob(JSON.parse(e.data)));
    source.addEventListener('end', (e) => {
      end();
      onJob(JSON.parse(e.data));
    });
    source.addEventListener('gone', () => {
      end();
      onJob(null);
    });
    // A lost connection is tried again by the browser; an answer such as a proxy's 502 is not.
    source.addEventListener('error', () => {
      if (!over && source.readyState === EventSource.CLOSED) again = window.setTimeout(open, RETRY_MS);
    });
  };
  open();
  return end;
}
