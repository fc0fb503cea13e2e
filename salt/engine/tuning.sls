# engine/tuning.sls: kernel and file limits for many connections.
# Pillar: engine:tuning:{enabled,at_least,exactly}, engine:unit:open_files_count.
#
# Full tables show in the kernel's log as "nf_conntrack: table full, dropping packet" and "TCP: time wait bucket table
# overflow". A limit of `at_least` is only ever raised: a host that has more keeps it. A key that this kernel does
# not have, such as nf_conntrack's without the module, stays in the file (after a "-", so that nobody complains at
# boot) and is left alone until it is there.
{%- from "engine/map.jinja" import engine with context %}
{%- if engine.tuning.enabled %}
{%- set live, lines = {}, {} %}
{%- for key in engine.tuning.at_least.keys() | list + engine.tuning.exactly.keys() | list %}
{%- set path = "/proc/sys/" ~ key | replace(".", "/") %}
{%- if salt["file.file_exists"](path) %}
{%- do live.update({key: salt["file.read"](path).split() | join(" ")}) %}
{%- endif %}
{%- endfor %}
{%- for key, least in engine.tuning.at_least.items() %}
{%- do lines.update({key: [live.get(key, "0") | int, least | int] | max | string}) %}
{%- endfor %}
{%- for key, value in engine.tuning.exactly.items() %}
{%- do lines.update({key: value | string}) %}
{%- endfor %}

engine-tuning-file-managed-sysctl:
  file.managed:
    - name: /etc/sysctl.d/60-purgeline.conf
    - source: salt://engine/files/sysctl.conf.j2
    - template: jinja
    - context:
        lines: {{ lines | json }}
    - user: root
    - group: root
    - mode: "0644"
    - makedirs: true
{%- for key, value in lines.items() if key in live and live[key] != value %}

engine-tuning-cmd-run-{{ key }}:
  cmd.run:
    - name: sysctl -q -w {{ (key ~ "=" ~ value) | json }}
    - require:
      - file: engine-tuning-file-managed-sysctl
{%- endfor %}

engine-tuning-file-managed-limits:
  file.managed:
    - name: /etc/security/limits.d/60-purgeline.conf
    - contents: |
        # Open files of the engine where systemd does not start it; the unit has its own limit.
        {{ engine.user }} soft nofile {{ engine.unit.open_files_count }}
        {{ engine.user }} hard nofile {{ engine.unit.open_files_count }}
    - user: root
    - group: root
    - mode: "0644"
    - makedirs: true
{%- else %}

# Nothing to do: an SLS without states is an error.
engine-tuning-test-nop:
  test.nop
{%- endif %}
