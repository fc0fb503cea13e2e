# engine/clean.sls: takes back what the other files of this formula did. Stops the engine.
# Pillar: engine:{root,user,group,python,purge_data,nginx,unit}.
#
# The outbox stays: what is in it is nowhere else. Data stays unless engine:purge_data is the boolean true: then all that was made in the root goes, the root itself when
# nothing else is in it, and the account that owns the data (without it another account could get its number, and with
# that the files). A data folder outside the root stays, and the account with it. Units, and what there is one of on a
# host, stay where they are another installation's. Kernel settings stay until the next boot: what they were before is
# not known.
{%- from "engine/map.jinja" import engine, shared, data_dir, is_data_inside, is_booted, other_root with context %}
{%- set units = ["purgeline-outbox.timer", "purgeline-outbox.service", "purgeline.socket", "purgeline.service"] %}
{%- if is_booted and not other_root %}
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
    ("config", shared ~ "/engine.toml"),
    ("ask", shared ~ "/ask.py"),
    ("run", shared ~ "/run"),
] %}
{%- if not other_root %}
{%- set files = [
    ("purgeline.service", engine.unit.dir ~ "/purgeline.service"),
    ("purgeline.socket", engine.unit.dir ~ "/purgeline.socket"),
    ("purgeline-outbox.service", engine.unit.dir ~ "/purgeline-outbox.service"),
    ("purgeline-outbox.timer", engine.unit.dir ~ "/purgeline-outbox.timer"),
    ("sysctl", "/etc/sysctl.d/60-purgeline.conf"),
    ("limits", "/etc/security/limits.d/60-purgeline.conf"),
    ("nginx", engine.nginx.dir ~ "/purgeline.conf"),
    ("logrotate", "/etc/logrotate.d/purgeline"),
] + files %}
{%- endif %}
{%- for name, path in files %}

engine-clean-file-absent-{{ name }}:
  file.absent:
    - name: {{ path | json }}
    - require:
      - cmd: engine-clean-cmd-run-stop
{%- endfor %}
{%- if is_booted and not other_root %}

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
{%- if engine.purge_data is sameas true %}
{%- set made = [] %}
{%- for name in ("releases", "cache", "shared", "current", "previous", "history.jsonl", "history.jsonl.1", "lock", ".op.lock",
                 ".lock.lock") %}
{%- do made.append(engine.root ~ "/" ~ name) %}
{%- endfor %}

engine-clean-file-absent-data:
  file.absent:
    - names: {{ (made + ([data_dir] if is_data_inside else [])) | json }}
    - require:
      - cmd: engine-clean-cmd-run-stop

engine-clean-cmd-run-rmdir:
  cmd.run:
    - name: rmdir {{ engine.root }}
    - onlyif:
      - test -d {{ engine.root }}
      - test -z "$(ls -A {{ engine.root }})"
    - require:
      - file: engine-clean-file-absent-data
{%- if is_data_inside %}

engine-clean-user-absent:
  user.absent:
    - name: {{ engine.user | json }}
    - require:
      - cmd: engine-clean-cmd-run-rmdir

engine-clean-group-absent:
  group.absent:
    - name: {{ engine.group | json }}
    - require:
      - user: engine-clean-user-absent
{%- else %}

engine-clean-test-show-notification:
  test.show_notification:
    - text: >-
        {{ data_dir }} is outside {{ engine.root }}: it stays, and the account {{ engine.user }} with it.
{%- endif %}
{%- endif %}
