package apiserver

import (
	"context"
	"fmt"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	apiserverapi "k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/group"
	"k8s.io/apiserver/pkg/authentication/request/anonymous"
	"k8s.io/apiserver/pkg/authentication/request/bearertoken"
	requestunion "k8s.io/apiserver/pkg/authentication/request/union"
	"k8s.io/apiserver/pkg/authentication/request/websocket"
	"k8s.io/apiserver/pkg/authentication/request/x509"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	authorizerunion "k8s.io/apiserver/pkg/authorization/union"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/admission"
	"podium.dev/podium/internal/auth/bootstrap"
	"podium.dev/podium/internal/auth/node"
	"podium.dev/podium/internal/auth/rbac"
	"podium.dev/podium/internal/auth/token"
)

// security is who may come in and what they may do.
type security struct {
	policy *bootstrap.Policy
	rbac   *rbac.Authorizer
	node   *node.Authorizer
	all    authorizer.Authorizer
	rules  authorizer.RuleResolver
	tokens *token.Verifier
	signer *token.Signer
}

// openPaths may be asked for by anybody: whoever watches over the server has no identity in it.
var openPaths = []string{"/livez", "/readyz", "/healthz"}

// secure sets up authentication, authorization and admission. None of them knows anything before followStores.
func (s *Server) secure(cfg Config) error {
	policy, err := bootstrap.Default()
	if err != nil {
		return fmt.Errorf("read the default roles: %w", err)
	}
	sec := &security{policy: policy, rbac: rbac.New(policy), node: node.New(clusterRoleRules(policy, "system:node"))}
	sec.all, err = authorizerunion.New(
		authorizerunion.NamedAuthorizer{AuthorizerName: "kubernetes.io/system-privileged-group", Authorizer: authorizerfactory.NewPrivilegedGroups(user.SystemPrivilegedGroup)},
		authorizerunion.NamedAuthorizer{AuthorizerName: "node", Authorizer: sec.node},
		authorizerunion.NamedAuthorizer{AuthorizerName: "rbac", Authorizer: sec.rbac},
	)
	if err != nil {
		return fmt.Errorf("chain the authorizers: %w", err)
	}
	sec.rules = authorizerunion.NewRuleResolvers(sec.node, sec.rbac)

	keys := cfg.PKI.TokenKeys()
	if sec.tokens, err = token.NewVerifier(keys, s.store, clock.RealClock{}); err != nil {
		return err
	}
	if sec.signer, err = token.NewSigner(keys[0], cfg.MaxTokenLife, clock.RealClock{}); err != nil {
		return err
	}
	s.security = sec

	s.config.Authentication.APIAudiences = authenticator.Audiences{token.Issuer}
	s.config.Authentication.Authenticator = s.authenticator()
	s.config.Authorization.Authorizer = sec.all
	s.config.RuleResolver = sec.rules
	s.config.AdmissionControl, err = admission.Chain(admission.Config{Stores: s.store, RBAC: sec.rbac, All: sec.all})
	return err
}

func (s *Server) authenticator() authenticator.Request {
	known := requestunion.New(
		x509.NewDynamic(s.config.SecureServing.ClientCA.VerifyOptions, x509.CommonNameUserConversion),
		bearertoken.New(s.security.tokens),
		websocket.NewProtocolAuthenticator(s.security.tokens),
	)
	var open []apiserverapi.AnonymousAuthCondition
	for _, p := range openPaths {
		open = append(open, apiserverapi.AnonymousAuthCondition{Path: p})
	}
	// Who shows something that does not hold is turned away, also where others may come as nobody.
	return requestunion.NewFailOnError(group.NewAuthenticatedGroupAdder(known), anonymous.NewAuthenticator(open))
}

// installDiscovery publishes the keys of service-account tokens.
func (s *Server) installDiscovery(cfg Config) error {
	return token.InstallDiscovery(s.generic.Handler.NonGoRestfulMux, s.config.ExternalAddress, cfg.PKI.TokenKeys())
}

// followStores keeps the authorizers in step with what is stored, until the context ends.
func (s *Server) followStores(ctx context.Context) error {
	if err := s.security.rbac.Follow(ctx, s.store); err != nil {
		return err
	}
	return s.security.node.Follow(ctx, s.store)
}

// bootstrapRoles brings the default roles into the store, and keeps those that are put together from others.
// It does not hold up a start: until the roles are stored, the authorizer goes by them as they will be.
func (s *Server) bootstrapRoles() error {
	if err := s.security.policy.Reconcile(s.ctx, s.store); err != nil {
		return fmt.Errorf("store the default roles: %w", err)
	}
	go bootstrap.RunAggregation(s.ctx, s.store, s.security.rbac.ClusterRolesChanged())
	return nil
}

func clusterRoleRules(p *bootstrap.Policy, name string) []rbacv1.PolicyRule {
	i := slices.IndexFunc(p.ClusterRoles, func(r *rbacv1.ClusterRole) bool { return r.Name == name })
	if i < 0 {
		return nil
	}
	return p.ClusterRoles[i].Rules
}
