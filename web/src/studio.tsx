// The studio: a scan becomes an avatar.
import { render } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import * as api from './api';
import type { About, Asked, Job, Settings } from './api';
import { Landmarks } from './landmarks';
import { Header, LanguageContext, Recordings, Sliders, Stage, ToolBar, TOOLS, useLanguage, useLook, useWords } from './shared';
import type { Viewer, Weights } from './viewer';
import { expressionIn, stageIn, type Words, wordsOf } from './words';

const DEFAULTS: Settings = { expressions: ['all'], text: [], intensity: 1, seed: 0, pipeline: 'rgbd', unit: 'auto', surroundings: 'keep' };
const UNITS_OF_SCANS = ['auto', 'mm', 'cm', 'm', 'in'];

const idInAddress = (): string => /^#job=([0-9a-f]{32})$/.exec(location.hash)?.[1] ?? '';
const lineOf = (error: unknown, t: Words): string => (error instanceof api.Offline ? t.offline : error instanceof Error ? error.message : String(error));

function Studio() {
  const look = useLook();
  const [about, setAbout] = useState<About | null>(null);
  const [id, setId] = useState(idInAddress);
  const [history, setHistory] = useState<Job[]>([]);
  const [problem, setProblem] = useState('');
  const reload = () => void api.jobs().then(setHistory, () => undefined);
  useEffect(() => {
    api.about().then(setAbout, (error) => setProblem(lineOf(error, wordsOf(look.language))));
    reload();
    const moved = () => setId(idInAddress());
    addEventListener('hashchange', moved);
    return () => removeEventListener('hashchange', moved);
  }, []);
  const open = (job: Job | null) => {
    location.hash = job ? `job=${job.id}` : '';
    reload();
  };
  return (
    <LanguageContext.Provider value={look.language}>
      <Header title="omote studio" look={look}><NewButton shown={id !== ''} onClick={() => open(null)} /></Header>
      {problem && <p class="error" role="alert">{problem}</p>}
      {about && (id ? <JobPage key={id} id={id} about={about} history={history} onOpen={open} onChange={reload} /> : <Start about={about} onStarted={open} />)}
      {about && <History jobs={history} current={id} onOpen={open} onRemoved={() => { reload(); if (!idInAddress()) setId(''); }} />}
      <Footer about={about} />
    </LanguageContext.Provider>
  );
}

function NewButton(props: { shown: boolean; onClick: () => void }) {
  const t = useWords();
  return props.shown ? <button onClick={props.onClick}>{t.newAvatar}</button> : null;
}

function Footer(props: { about: About | null }) {
  const t = useWords();
  return (
    <footer>
      {props.about && <span>omote {props.about.version}</span>}
      {props.about && <span>{t.kept(props.about.keep_hours)}</span>}
      <a href="licenses.txt">{t.license}</a>
      <a href="openapi.json">API</a>
    </footer>
  );
}

function Start(props: { about: About; onStarted: (job: Job) => void }) {
  const t = useWords();
  const { about } = props;
  const [agreed, setAgreed] = useState(false);
  const [settings, setSettings] = useState(DEFAULTS);
  const [person, setPerson] = useState(1);
  const [share, setShare] = useState<number | null>(null);
  const [over, setOver] = useState(false);
  const [problem, setProblem] = useState('');
  // A file that is dropped beside the field would be opened in the page's place.
  useEffect(() => {
    const ignore = (event: DragEvent) => event.preventDefault();
    addEventListener('dragover', ignore);
    addEventListener('drop', ignore);
    return () => {
      removeEventListener('dragover', ignore);
      removeEventListener('drop', ignore);
    };
  }, []);
  const begin = async (work: Promise<Job>) => {
    setProblem('');
    try {
      props.onStarted(await work);
    } catch (error) {
      setProblem(lineOf(error, t));
    } finally {
      setShare(null);
    }
  };
  const send = (files: File[]) => {
    if (!files.length) return;
    if (!agreed) {
      setProblem(t.consentFirst);
      return;
    }
    if (files.reduce((sum, file) => sum + file.size, 0) > about.upload_bytes) {
      setProblem(t.tooLarge(about.upload_bytes >> 20));
      return;
    }
    setShare(0);
    void begin(api.upload({ settings, consent: true }, files, setShare));
  };
  const drop = (event: DragEvent) => {
    event.preventDefault();
    setOver(false);
    void filesOf(event.dataTransfer).then(send);
  };
  return (
    <main class="start">
      <h1>{t.tagline}</h1>
      <label class="check consent"><input type="checkbox" checked={agreed} onChange={(e) => { setAgreed(e.currentTarget.checked); setProblem(''); }} /> <span>{t.consent}</span></label>
      <label class={`drop ${agreed ? '' : 'locked'} ${over ? 'over' : ''}`} onDragOver={(e) => { e.preventDefault(); setOver(true); }} onDragLeave={() => setOver(false)} onDrop={drop}>
        <input type="file" multiple disabled={!agreed || share !== null} data-scan onChange={(e) => { send([...(e.currentTarget.files ?? [])]); e.currentTarget.value = ''; }} />
        {share === null ? (
          <>
            <strong>{t.drop}</strong> <span class="link">{t.orChoose}</span>
            <small>{t.formats(about.formats.map((f) => f.slice(1).toUpperCase()).filter((f) => f !== 'JSON').join(' '))} ({t.largest(about.upload_bytes >> 20)})</small>
            {!agreed && <small>{t.consentFirst}</small>}
          </>
        ) : (
          <><strong>{t.uploading}</strong><progress value={share} max={1} aria-label={t.uploading} /></>
        )}
      </label>
      {problem && <p class="error" role="alert">{problem}</p>}
      <div class="row madeup">
        <button class="main" disabled={share !== null} onClick={() => void begin(api.start({ settings, made_up: person }))}>{t.madeUp}</button>
        <label class="number">{t.person} <input type="number" min={0} max={999999} value={person} onInput={(e) => setPerson(Math.max(0, Math.floor(Number(e.currentTarget.value)) || 0))} /></label>
        <small>{t.madeUpHint}</small>
      </div>
      <details>
        <summary>{t.settings}</summary>
        <SettingsForm about={about} settings={settings} onChange={setSettings} scan />
      </details>
    </main>
  );
}

// Dropped folders are opened; browsers give their files one level at a time.
async function filesOf(transfer: DataTransfer | null): Promise<File[]> {
  const entries = [...(transfer?.items ?? [])].map((item) => item.webkitGetAsEntry?.()).filter((e): e is FileSystemEntry => !!e);
  if (!entries.some((e) => e.isDirectory)) return [...(transfer?.files ?? [])];
  const found: File[] = [];
  const walk = async (entry: FileSystemEntry): Promise<void> => {
    if (entry.isFile) {
      found.push(await new Promise((done, fail) => (entry as FileSystemFileEntry).file(done, fail)));
      return;
    }
    const reader = (entry as FileSystemDirectoryEntry).createReader();
    for (;;) {
      const some = await new Promise<FileSystemEntry[]>((done, fail) => reader.readEntries(done, fail));
      if (!some.length) return;
      for (const inner of some) await walk(inner);
    }
  };
  for (const entry of entries) await walk(entry);
  return found;
}

function SettingsForm(props: { about: About; settings: Settings; onChange: (settings: Settings) => void; scan?: boolean }) {
  const t = useWords(), language = useLanguage();
  const { about, settings } = props;
  const set = (more: Partial<Settings>) => props.onChange({ ...settings, ...more });
  const all = settings.expressions[0] === 'all' ? about.expressions : settings.expressions;
  const toggle = (name: string, on: boolean) => {
    const next = about.expressions.filter((n) => (n === name ? on : all.includes(n)));
    if (next.length) set({ expressions: next.length === about.expressions.length ? ['all'] : next });
  };
  return (
    <div class="settings">
      <fieldset>
        <legend>{t.expressions}</legend>
        {about.expressions.map((name) => (
          <label key={name} class="check"><input type="checkbox" checked={all.includes(name)} onChange={(e) => toggle(name, e.currentTarget.checked)} /> {expressionIn(language, name)}</label>
        ))}
      </fieldset>
      <label class="slider"><span>{t.intensity}</span>
        <input type="range" min={0} max={1} step={0.05} value={settings.intensity} onInput={(e) => set({ intensity: Number(e.currentTarget.value) })} /><output>{settings.intensity.toFixed(2)}</output></label>
      <label class="field"><span>{t.seed}</span><input type="number" min={0} max={999999} value={settings.seed} onInput={(e) => set({ seed: Math.max(0, Math.floor(Number(e.currentTarget.value)) || 0) })} /><small>{t.seedHint}</small></label>
      <label class="field"><span>{t.pipeline}</span>
        <select value={settings.pipeline} onChange={(e) => set({ pipeline: e.currentTarget.value })}>
          {['rgbd', 'multiview', 'latent-views'].map((p) => <option key={p} value={p} disabled={!about.pipelines.includes(p)}>{p}</option>)}
        </select></label>
      {props.scan && (
        <label class="field"><span>{t.unit}</span>
          <select value={settings.unit} onChange={(e) => set({ unit: e.currentTarget.value })}>{UNITS_OF_SCANS.map((u) => <option key={u} value={u}>{u === 'auto' ? t.auto : u}</option>)}</select></label>
      )}
      <label class="field"><span>{t.surroundings}</span>
        <select value={settings.surroundings} onChange={(e) => set({ surroundings: e.currentTarget.value })}><option value="keep">{t.keep}</option><option value="drop">{t.dropThem}</option></select></label>
      <label class="field"><span>{t.words}</span>
        <textarea rows={2} disabled={!about.words} placeholder={about.words ? t.wordsHint : t.noWords} onInput={(e) => set({ text: e.currentTarget.value.split('\n').map((l) => l.trim()).filter(Boolean) })}>{settings.text.join('\n')}</textarea></label>
    </div>
  );
}

function JobPage(props: { id: string; about: About; history: Job[]; onOpen: (job: Job | null) => void; onChange: () => void }) {
  const t = useWords();
  const [job, setJob] = useState<Job | null>(null);
  const [gone, setGone] = useState(false);
  const [problem, setProblem] = useState('');
  const state = useRef('');
  useEffect(() => {
    let stop: () => void = () => undefined;
    let current = true;
    const take = (found: Job | null) => {
      if (!current) return;
      setJob(found);
      setGone(found === null);
      if (found && found.state !== state.current) {
        state.current = found.state;
        props.onChange();
      }
    };
    api.job(props.id).then((found) => {
      take(found);
      if (current && (found.state === 'queued' || found.state === 'running')) stop = api.follow(props.id, take);
    }, () => take(null));
    return () => {
      current = false;
      stop();
    };
  }, [props.id]);
  const again = async (asked: Asked) => {
    setProblem('');
    try {
      const next = await api.start(asked);
      props.onOpen(next);
    } catch (error) {
      setProblem(lineOf(error, t));
    }
  };
  const remove = async () => {
    await api.remove(props.id).catch(() => undefined);
    props.onOpen(null);
  };
  if (gone) return <main><p class="error" role="alert">{t.gone}</p></main>;
  if (!job) return <main><p>{t.loading} …</p></main>;
  return (
    <>
      {problem && <p class="error" role="alert">{problem}</p>}
      {job.state === 'done' ? <AvatarPage job={job} about={props.about} history={props.history} onAgain={again} onChange={props.onChange} /> : <Progress job={job} onAgain={again} onCancel={() => void remove()} />}
    </>
  );
}

function Found(props: { job: Job }) {
  const t = useWords();
  const { scan, facts, notes } = props.job;
  const n = (value: number) => value.toLocaleString();
  return (
    <dl class="found">
      {scan && <><dt>{t.read}</dt><dd>{scan.kind === 'mesh' ? t.mesh : scan.kind === 'frame' ? t.frame : t.points}, {t.nPoints(n(scan.points))}{scan.faces ? `, ${t.nFaces(n(scan.faces))}` : ''}, {scan.color ? t.color : t.noColor}</dd></>}
      {facts && (
        <><dt>{t.found}</dt><dd>{String(facts['align/unit'])}, {t.confidence} {Number(facts['align/confidence']).toFixed(2)}, {t.fit} {Number(facts['fit/median_mm']).toFixed(2)} mm, {t.mouth}: {String(facts['align/mouth'])}</dd></>
      )}
      {!!notes?.length && <><dt>{t.notes}</dt><dd><ul>{notes.map((note, i) => <li key={i}>{note}</li>)}</ul></dd></>}
      {props.job.consent && <><dt>{t.agreed}</dt><dd>{props.job.consent}</dd></>}
    </dl>
  );
}

function Progress(props: { job: Job; onAgain: (asked: Asked) => void; onCancel: () => void }) {
  const t = useWords(), language = useLanguage();
  const { job } = props;
  const [clicking, setClicking] = useState(false);
  const [unit, setUnit] = useState(job.settings.unit);
  const stages = job.stages ?? [];
  const running = job.state === 'running';
  const files = job.files ?? [];
  const preview = files.some((f) => f.name === 'preview.glb');
  const pictures = files.filter((f) => f.name.endsWith('.png') && f.label);
  const title = job.state === 'queued' ? `${t.queued}: ${t.ahead(job.place)}` : running ? t.working : t.failed;
  const rescue = job.state === 'failed' && job.error?.kind === 'AlignmentError' && preview;
  if (clicking) {
    return <Landmarks url={api.fileOf(job, 'preview.glb')} onCancel={() => setClicking(false)} onDone={(landmarks) => props.onAgain({ again: job.id, landmarks, settings: { ...job.settings, unit } })} />;
  }
  return (
    <main class="job">
      <section>
        <h1 aria-live="polite">{job.name} <small class={`state ${job.state}`}>{title}</small></h1>
        {job.attempt > 1 && running && <p class="note">{t.again}</p>}
        {job.error && <p class="error" role="alert">{job.error.line}</p>}
        {rescue && (
          <div class="rescue">
            <button class="main" onClick={() => setClicking(true)}>{t.landmarksStart}</button>
            <label class="field"><span>{t.tryUnit}</span>
              <select value={unit} onChange={(e) => setUnit(e.currentTarget.value)}>{UNITS_OF_SCANS.map((u) => <option key={u} value={u}>{u === 'auto' ? t.auto : u}</option>)}</select></label>
            <button onClick={() => props.onAgain({ again: job.id, settings: { ...job.settings, unit } })}>{t.tryAgain}</button>
          </div>
        )}
        <ol class="steps" aria-label={t.stages}>
          {stages.map((stage, i) => {
            const next = stages[i + 1];
            const active = running && !next;
            return (
              <li key={`${stage.stage}${i}`} class={active ? 'active' : !next && job.state === 'failed' ? 'broken' : 'past'}>
                <span>{stageIn(language, stage.stage)}</span>
                {active && stage.total > 0 && <progress value={stage.done} max={stage.total} aria-label={stageIn(language, stage.stage)} />}
                {active && stage.total === 0 && <span class="spin" aria-hidden="true" />}
                {active && stage.note && <small>{expressionIn(language, stage.note)}</small>}
                {next && <small>{t.seconds((next.at_s - stage.at_s).toFixed(1))}</small>}
              </li>
            );
          })}
        </ol>
        <Found job={job} />
        <button onClick={props.onCancel}>{job.state === 'failed' ? t.remove : t.cancel}</button>
      </section>
      <section>
        {preview && (
          <>
            <h2>{t.read}</h2>
            <ScanStage job={job} />
            <p class="small">{t.turnIt}</p>
          </>
        )}
        {pictures.length > 0 && (
          <>
            <h2>{t.images}</h2>
            <div class="pictures">
              {pictures.map((f) => <figure key={f.name}><img src={api.fileOf(job, f.name)} alt={f.label} width="256" height="128" /><figcaption>{f.label === 'source' ? t.source : expressionIn(language, f.label)}</figcaption></figure>)}
            </div>
          </>
        )}
      </section>
    </main>
  );
}

function ScanStage(props: { job: Job }) {
  const viewer = useRef<Viewer | null>(null);
  return (
    <Stage url={api.fileOf(props.job, 'preview.glb')} label={props.job.name} tools={TOOLS} weights={NONE} onViewer={(v) => (viewer.current = v)}
      onLoaded={(l) => { if (l.extras.kind === 'frame') viewer.current?.setFlip(Math.PI, 0, 0); }} />
  );
}

const NONE: Weights = {};

function AvatarPage(props: { job: Job; about: About; history: Job[]; onAgain: (asked: Asked) => void; onChange: () => void }) {
  const t = useWords(), language = useLanguage();
  const { job, about } = props;
  const [tools, setTools] = useState(TOOLS);
  const [names, setNames] = useState<string[]>([]);
  const [weights, setWeights] = useState<Weights>({});
  const [turn, setTurn] = useState<[number, number, number] | undefined>();
  const [settings, setSettings] = useState<Settings>({ ...DEFAULTS, ...job.settings });
  const [beside, setBeside] = useState('');
  const [waiting, setWaiting] = useState<Job | null>(null);
  const [problem, setProblem] = useState('');
  const viewers = useRef<(Viewer | null)[]>([null, null]);
  const others = props.history.filter((other) => other.state === 'done' && other.id !== job.id);
  const other = others.find((o) => o.id === beside);
  const link = (i: number) => (viewer: Viewer | null) => {
    viewers.current[i] = viewer;
    if (!viewer) return;
    viewer.onMove = () => viewers.current[1 - i]?.follow(viewer);
  };
  useEffect(() => {
    if (!waiting) return;
    return api.follow(waiting.id, (found) => {
      if (found && (found.state === 'queued' || found.state === 'running')) {
        setWaiting(found);
        return;
      }
      if (found?.state === 'done') setBeside(found.id);
      if (found?.error) setProblem(found.error.line);
      setWaiting(null);
      props.onChange();
    });
  }, [waiting?.id]);
  const another = async () => {
    setProblem('');
    const seeds = [job, ...others].filter((o) => o.name === job.name).map((o) => o.settings.seed);
    try {
      setWaiting(await api.start({ again: job.id, settings: { ...job.settings, seed: Math.max(...seeds) + 1 } }));
      props.onChange();
    } catch (error) {
      setProblem(lineOf(error, t));
    }
  };
  const mask = (of: Job) => (of.results.includes('inferred.png') ? api.fileOf(of, 'inferred.png') : undefined);
  return (
    <main class="avatar">
      <div class={`stages ${other ? 'two' : ''}`}>
        <Stage url={api.fileOf(job, 'avatar.glb')} label={job.name} tools={tools} weights={weights} turn={turn} mask={mask(job)} onLoaded={(l) => setNames(l.names)} onViewer={link(0)} />
        {other && <Stage key={other.id} url={api.fileOf(other, 'avatar.glb')} label={other.name} tools={tools} weights={weights} turn={turn} mask={mask(other)} onViewer={link(1)} />}
      </div>
      <aside>
        <h1>{job.name}</h1>
        <p class="small">{job.summary}</p>
        <div class="row downloads">
          <a class="button main" href={api.fileOf(job, 'avatar.glb')} download="avatar.glb">{t.download} GLB</a>
          <a class="button" href={api.fileOf(job, 'avatar.vrm')} download="avatar.vrm">VRM</a>
          <a class="button" href={api.fileOf(job, 'sheet.png')} download="sheet.png">{t.sheet}</a>
          <a class="button" href={api.fileOf(job, 'report.json')} download="report.json">{t.report}</a>
        </div>
        <ToolBar tools={tools} onChange={setTools} onFront={() => viewers.current.forEach((v) => v?.frame())} mask />
        <Sliders names={names} units={about.units} weights={weights} onChange={setWeights} />
        <section>
          <h2>{t.variants}</h2>
          <div class="row">
            <button disabled={!!waiting} title={t.anotherHint} onClick={() => void another()}>{waiting ? `${t.working} …` : t.another}</button>
            <label class="field"><span>{t.beside}</span>
              <select value={other?.id ?? ''} data-beside onChange={(e) => setBeside(e.currentTarget.value)}>
                <option value="">{t.nothingBeside}</option>
                {others.map((o) => <option key={o.id} value={o.id}>{o.name} · {t.seed} {o.settings.seed}{o.settings.intensity < 1 ? ` · ${o.settings.intensity}` : ''}{o.settings.text.length ? ` · ${o.settings.text.join(', ')}` : ''}</option>)}
              </select></label>
          </div>
          {problem && <p class="error" role="alert">{problem}</p>}
          <details>
            <summary>{t.settings}</summary>
            <SettingsForm about={about} settings={settings} onChange={setSettings} />
            <button class="main" onClick={() => props.onAgain({ again: job.id, settings })}>{t.makeThese}</button>
          </details>
        </section>
        <Recordings units={about.units} onFrame={(w, at) => { setWeights(w); setTurn(at); }} />
        <details>
          <summary>{t.images}</summary>
          <div class="pictures">
            {(job.files ?? []).filter((f) => f.label).map((f) => <figure key={f.name}><img src={api.fileOf(job, f.name)} alt={f.label} width="256" height="128" /><figcaption>{f.label === 'source' ? t.source : expressionIn(language, f.label)}</figcaption></figure>)}
          </div>
        </details>
        <details open>
          <summary>{t.read}</summary>
          <Found job={job} />
        </details>
      </aside>
    </main>
  );
}

function History(props: { jobs: Job[]; current: string; onOpen: (job: Job) => void; onRemoved: () => void }) {
  const t = useWords();
  const remove = async (job: Job) => {
    if (!confirm(t.removeSure)) return;
    await api.remove(job.id).catch(() => undefined);
    if (job.id === props.current) location.hash = '';
    props.onRemoved();
  };
  return (
    <nav class="history" aria-label={t.history}>
      <h2>{t.history}</h2>
      {!props.jobs.length && <p class="small">{t.historyEmpty}</p>}
      <ul>
        {props.jobs.map((job) => (
          <li key={job.id} class={job.id === props.current ? 'current' : ''}>
            <a href={`#job=${job.id}`} onClick={(e) => { e.preventDefault(); props.onOpen(job); }}>
              {job.state === 'done' && job.files?.some((f) => f.name === 'source.png') && <span class="thumb"><img src={api.fileOf(job, 'source.png')} alt="" loading="lazy" /></span>}
              <span class="name">{job.name}</span>
              <small class={`state ${job.state}`}>{{ queued: t.queued, running: t.working, done: t.done, failed: t.failed }[job.state]} · {new Date(job.created * 1000).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' })} · {t.seed} {job.settings.seed}</small>
            </a>
            <button class="quiet" aria-label={`${t.remove}: ${job.name}`} title={t.remove} onClick={() => void remove(job)}>✕</button>
          </li>
        ))}
      </ul>
    </nav>
  );
}

render(<Studio />, document.getElementById('page')!);
