# engine/outbox.sls: a folder for tasks that no engine took, and the timer that sends them. Programs on this host that
# purge name the folder (`purgeline purge --outbox`, PURGELINE_OUTBOX, docs/client.md).
# Pillar: engine:outbox:{enabled,dir,user,engines,every_s,alert_after_s,alert_url,alert_config,environment_file}, engine:{root,unit}.
#
# Without it the units go, and the folder stays: what is in it is nowhere else.
{%- from "engine/map.jinja" import engine, listen, is_booted, other_root with context %}
{%- set outbox = engine.outbox %}
{%- set units = ["purgeline-outbox.service", "purgeline-outbox.timer"] %}
{%- if other_root %}
{{- raise("the outbox of this host is that of the installation in %s" % other_root) if outbox.enabled }}
{%- elif outbox.enabled %}

include:
  - engine.install

engine-outbox-file-directory:
  file.directory:
    - name: {{ outbox.dir | json }}
    - user: {{ (outbox.user or engine.user) | json }}
    - mode: "0700"
    - makedirs: true
    - require:
      - sls: engine.install
{%- for unit in units %}

engine-outbox-file-managed-{{ unit }}:
  file.managed:
    - name: {{ (engine.unit.dir ~ "/" ~ unit) | json }}
    - source: salt://engine/files/{{ unit }}.j2
    - template: jinja
    - context:
        engine: {{ engine | json }}
        listen: {{ listen | json }}
    - user: root
    - group: root
    - mode: "0644"
    - makedirs: true
    - require:
      - file: engine-outbox-file-directory
{%- endfor %}
{%- if is_booted %}

engine-outbox-cmd-run-daemon-reload:
  cmd.run:
    - name: systemctl daemon-reload
    - onchanges:
{%- for unit in units %}
      - file: engine-outbox-file-managed-{{ unit }}
{%- endfor %}

engine-outbox-service-running:
  service.running:
    - name: purgeline-outbox.timer
    - enable: true
    - require:
      - cmd: engine-outbox-cmd-run-daemon-reload
{%- endif %}
{%- else %}
{%- if is_booted and salt["file.file_exists"](engine.unit.dir ~ "/purgeline-outbox.timer") %}

engine-outbox-service-dead:
  service.dead:
    - name: purgeline-outbox.timer
    - enable: false
    - require_in:
{%- for unit in units %}
      - file: engine-outbox-file-absent-{{ unit }}
{%- endfor %}
{%- endif %}
{%- for unit in units %}

engine-outbox-file-absent-{{ unit }}:
  file.absent:
    - name: {{ (engine.unit.dir ~ "/" ~ unit) | json }}
{%- endfor %}
{%- endif %}
