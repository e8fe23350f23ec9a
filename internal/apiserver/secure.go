package apiserver

import (
	"k8s.io/apiserver/pkg/authentication/group"
	"k8s.io/apiserver/pkg/authentication/request/x509"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
)

// secure says who may come in and what they may do.
func (s *Server) secure(cfg Config) error {
	s.config.Authentication.Authenticator = group.NewAuthenticatedGroupAdder(
		x509.NewDynamic(s.config.SecureServing.ClientCA.VerifyOptions, x509.CommonNameUserConversion))
	s.config.Authorization.Authorizer = authorizerfactory.NewPrivilegedGroups("system:masters", "system:nodes")
	return nil
}
