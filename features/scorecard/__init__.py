"""The ML Test Score of a model, computed from evidence: Breck, Cai, Nielsen, Salib and Sculley, *The ML Test Score: A
Rubric for ML Production Readiness and Technical Debt Reduction*, IEEE Big Data 2017.

Sources see what the warehouse says of a test; people and CI record what it cannot know. The score follows from the rows
of evidence and a clock, and is kept nowhere.
"""
