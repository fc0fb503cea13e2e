# engine/service.sls: the systemd units. They are installed and enabled, never started, stopped or restarted:
# `inv reload` starts the first release and brings every change into use.
# Pillar: engine:{root,user,group,owner,python,workers,unit,config:engine}.
#
# A host that systemd does not run gets the files only; there `reload` starts the supervisor itself.
{%- from "engine/map.jinja" import engine, shared, data_dir, listen, settings, is_booted, other_root with context %}
{%- if other_root %}
{{- raise(("%s/purgeline.service runs the installation in %s; there is one unit on a host: apply engine.clean with "
           ~ "that root first") % (engine.unit.dir, other_root)) }}
{%- endif %}
{%- set units = ["purgeline.service"] + (["purgeline.socket"] if engine.unit.socket else []) %}

include:
  - engine.install
{%- for unit in units %}

engine-service-file-managed-{{ unit }}:
  file.managed:
    - name: {{ (engine.unit.dir ~ "/" ~ unit) | json }}
    - source: salt://engine/files/{{ unit }}.j2
    - template: jinja
    - context:
        engine: {{ engine | json }}
        shared: {{ shared | json }}
        data_dir: {{ data_dir | json }}
        listen: {{ listen | json }}
        listen_backlog: {{ settings.get("listen_backlog", 4096) }}
        drain_timeout_s: {{ settings.get("drain_timeout_s", 30) }}
    - user: root
    - group: root
    - mode: "0644"
    - makedirs: true
    - require:
      - sls: engine.install
{%- endfor %}

# What ExecReload runs.
engine-service-file-managed-ask:
  file.managed:
    - name: {{ (shared ~ "/ask.py") | json }}
    - source: salt://engine/files/ask.py
    - user: {{ engine.owner | json }}
    - mode: "0644"
    - require:
      - sls: engine.install
{%- if not engine.unit.socket %}

engine-service-file-absent-socket:
  file.absent:
    - name: {{ (engine.unit.dir ~ "/purgeline.socket") | json }}
{%- endif %}
{%- if is_booted %}

engine-service-cmd-run-daemon-reload:
  cmd.run:
    - name: systemctl daemon-reload
    - onchanges:
{%- for unit in units %}
      - file: engine-service-file-managed-{{ unit }}
{%- endfor %}
{%- for unit in units %}

engine-service-service-enabled-{{ unit }}:
  service.enabled:
    - name: {{ unit }}
    - require:
      - cmd: engine-service-cmd-run-daemon-reload
{%- endfor %}
{%- endif %}
