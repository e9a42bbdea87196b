"""Makes a user of ministack's IAM with one policy, or gives a user another one.

    grant.py ENDPOINT ACCOUNT USER POLICY-FILE

Prints the user's access key as JSON when it was made.
"""

import json
import sys

from botocore.config import Config
from botocore.session import Session

endpoint, account, user, policy = sys.argv[1:]
iam = Session().create_client(
    "iam",
    region_name="us-east-1",
    endpoint_url=endpoint,
    aws_access_key_id=account,
    aws_secret_access_key="test",
    config=Config(connect_timeout=5, read_timeout=20, retries={"max_attempts": 1}),
)
with open(policy, encoding="utf-8") as file:
    document = json.dumps(json.load(file))
made = {}
try:
    iam.create_user(UserName=user)
    key = iam.create_access_key(UserName=user)["AccessKey"]
    made = {"access_key_id": key["AccessKeyId"], "secret_access_key": key["SecretAccessKey"]}
except iam.exceptions.EntityAlreadyExistsException:
    pass
iam.put_user_policy(UserName=user, PolicyName="signkeep", PolicyDocument=document)
print(json.dumps(made))
