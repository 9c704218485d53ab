"""What would make a model train differently on several replicas.

Only looks: a model stays as it is. The audit itself, in `model_audit`, needs
TensorFlow; findings, which the doctor has too, must not.
"""

from tfdp.audits.findings import Finding, Findings
