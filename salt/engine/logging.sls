# engine/logging.sls: rotation of the log that a supervisor writes where systemd does not start it.
# Pillar: engine:logging:{enabled,rotate_count,size}. The journal and nginx's logs have rotations of their own.
{%- from "engine/map.jinja" import engine, shared with context %}
{%- if engine.logging.enabled %}

engine-logging-file-managed:
  file.managed:
    - name: /etc/logrotate.d/purgeline
    - source: salt://engine/files/logrotate.conf.j2
    - template: jinja
    - context:
        logging: {{ engine.logging | json }}
        owner: {{ engine.owner | json }}
        group: {{ ("root" if engine.owner == "root" else engine.group) | json }}
        shared: {{ shared | json }}
    - user: root
    - group: root
    - mode: "0644"
    - makedirs: true
{%- else %}

engine-logging-file-absent:
  file.absent:
    - name: /etc/logrotate.d/purgeline
{%- endif %}
