# engine/clean.sls: takes back what the other files of this formula did. Stops the engine.
# Pillar: engine:{root,user,group,python,purge_data,nginx,unit}.
#
# Data stays unless engine:purge_data is true: the root with releases, history and store, and the account that owns
# them (without it another account could get its number, and with that the files). Kernel settings stay until the
# next boot: what they were before is not known.
{%- from "engine/map.jinja" import engine, shared, data_dir, is_booted with context %}
{%- set units = ["purgeline.socket", "purgeline.service"] %}
{%- if is_booted %}
{%- for unit in units %}

engine-clean-service-dead-{{ unit }}:
  service.dead:
    - name: {{ unit }}
    - enable: false
    - require_in:
      - file: engine-clean-file-absent-{{ unit }}
{%- endfor %}
{%- endif %}

# One that systemd did not start.
engine-clean-cmd-run-stop:
  cmd.run:
    - name: {{ engine.python }} -I {{ shared }}/ask.py {{ shared }}/run/control.sock stop
    - onlyif:
      - test -S {{ shared }}/run/control.sock
      - test -f {{ shared }}/ask.py
{%- set files = [
    ("purgeline.service", engine.unit.dir ~ "/purgeline.service"),
    ("purgeline.socket", engine.unit.dir ~ "/purgeline.socket"),
    ("sysctl", "/etc/sysctl.d/60-purgeline.conf"),
    ("limits", "/etc/security/limits.d/60-purgeline.conf"),
    ("nginx", engine.nginx.dir ~ "/purgeline.conf"),
    ("logrotate", "/etc/logrotate.d/purgeline"),
    ("config", shared ~ "/engine.toml"),
    ("ask", shared ~ "/ask.py"),
    ("run", shared ~ "/run"),
] %}
{%- for name, path in files %}

engine-clean-file-absent-{{ name }}:
  file.absent:
    - name: {{ path | json }}
    - require:
      - cmd: engine-clean-cmd-run-stop
{%- endfor %}
{%- if is_booted %}

engine-clean-cmd-run-daemon-reload:
  cmd.run:
    - name: systemctl daemon-reload
    - onchanges:
{%- for unit in units %}
      - file: engine-clean-file-absent-{{ unit }}
{%- endfor %}

engine-clean-cmd-run-nginx-reload:
  cmd.run:
    - name: systemctl try-reload-or-restart nginx.service
    - onchanges:
      - file: engine-clean-file-absent-nginx
{%- endif %}
{%- if engine.purge_data %}

engine-clean-file-absent-data:
  file.absent:
    - names: {{ [data_dir, engine.root] | json }}
    - require:
      - cmd: engine-clean-cmd-run-stop

engine-clean-user-absent:
  user.absent:
    - name: {{ engine.user | json }}
    - require:
      - file: engine-clean-file-absent-data

engine-clean-group-absent:
  group.absent:
    - name: {{ engine.group | json }}
    - require:
      - user: engine-clean-user-absent
{%- endif %}
